"""Damage with knowledge of a format: JSON, shards, audio, GGUF."""
