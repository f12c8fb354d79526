"""Qwen3-ASR 1.7B and 0.6B, and Mega-ASR: an audio encoder before a Qwen3 decoder, in one GGUF file."""

REPO = "Qwen/Qwen3-ASR-1.7B"  # on the Hub
