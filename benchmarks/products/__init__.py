"""Products of the own kernels beside those of ggml."""
