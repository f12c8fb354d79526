"""What the gates were set from."""
