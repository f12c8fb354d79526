"""Decoder and vocoder of MiMo-Audio-Tokenizer: codes → waveform."""
