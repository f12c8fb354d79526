"""Compare stages and responses of two runs: measures, thresholds, gates."""
