"""How much a model's output depends on what each of its matrices gives."""
