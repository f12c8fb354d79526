"""The tasks of MiMo-Audio beside transcription: their prompts, samplers and stop tokens, and who performs them."""
