"""Train the tiny Qwen3-ASR checkpoint and its adapter: `python -m tools.train_tiny_qwen3`."""
