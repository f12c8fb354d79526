"""Row-by-row comparison of a file with its checkpoint, or with another file."""
