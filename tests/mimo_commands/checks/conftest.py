"""Files and clips of an agreement."""

from tests.mimo_agreement.conftest import clips, tiny  # noqa: F401
