"""safetensors, GGUF and vocabularies: parsed and validated before use."""
