"""What each type costs: bytes at the real size, KL divergence and words on noisy clips."""
