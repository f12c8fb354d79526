"""Every tensor of an output file with its type, offset and size, before a byte is written."""
