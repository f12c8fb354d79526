"""BPE tokenizers and the word error rate."""
