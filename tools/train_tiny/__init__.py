"""Train the tiny checkpoint pair of the tests: `python -m tools.train_tiny`."""
