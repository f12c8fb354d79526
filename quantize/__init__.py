"""Ground floor: numbers. Rows of floats become ggml blocks; nothing here knows of models or files."""
