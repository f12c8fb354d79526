"""What the documents show and code knows: tables from the registry, and the picture of a run."""
