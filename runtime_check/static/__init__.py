"""GGUF lint: rules that are checked without running a file."""
