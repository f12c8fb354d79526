"""The PyTorch reference: weights from a checkpoint's shards, and layers."""
