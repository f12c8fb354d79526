"""What the tests need of the system: signals, special files, a browser, folders that workers share."""
