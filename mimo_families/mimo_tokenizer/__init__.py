"""MiMo-Audio-Tokenizer."""

REPO = "XiaomiMiMo/MiMo-Audio-Tokenizer"  # the published checkpoint, on the Hub
