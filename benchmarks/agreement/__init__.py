"""Agreement on an hour of noisy speech: `python -m benchmarks.agreement`."""
