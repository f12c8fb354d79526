"""Reference activations: from a checkpoint, or stored in a file."""
