"""Execute plans: read, quantize, write, flush, resume."""
