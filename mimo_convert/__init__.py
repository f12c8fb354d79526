"""Files: a Hugging Face checkpoint becomes GGUF files. This layer knows no model."""

from importlib.metadata import version

__version__ = version("mimo-convert")
