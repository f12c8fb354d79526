"""MiMo-Audio at the real size: what it costs to convert it, to speak, and to decode what is spoken."""
