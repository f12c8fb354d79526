"""Files of random checkpoints, and the JFK clip."""

from tests.runtime_check.conftest import converted, jfk, lm_checkpoint, tokenizer_checkpoint  # noqa: F401
