"""Reports as JSON, table, JUnit XML and HTML page."""
