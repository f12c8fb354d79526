"""Reports of agreement: table, JSON, CSV, JUnit XML and page."""
