"""First floor: files. A Hugging Face checkpoint becomes GGUF files."""

__version__ = "0.1.0"
