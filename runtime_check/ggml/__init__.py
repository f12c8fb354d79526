"""ggml graphs over weights in the mapped GGUF file."""
