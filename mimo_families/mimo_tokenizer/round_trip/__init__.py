"""The audio tokenizer on a clip: audio → codes → audio."""
