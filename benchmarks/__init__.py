"""What is measured, and too slow for the tests."""
