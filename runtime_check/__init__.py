"""Top floor: proof. What was written is run and compared with what it came from."""
