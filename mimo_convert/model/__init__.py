"""The family interface, a model as it is stored, and what a GGUF file says of itself."""
