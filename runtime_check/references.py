"""Where a reference comes from: a file of stored activations, or a checkpoint run in PyTorch."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mimo_convert.checkpoint import Checkpoint
from mimo_convert.models import family_of, mimo_asr
from mimo_convert.request import make_request
from quantize.errors import InputError
from quantize.types import F32

from . import bundled
from .activations import Activations
from .prompt import LANGUAGE_TAGS
from .transcribe import Clip


@dataclass(frozen=True)
class Reference:
    """A stored reference, or the checkpoints to make one from (`lm` None: the audio tokenizer alone)."""

    stored: Activations | None = None
    lm: Checkpoint | None = None
    tokenizer: Checkpoint | None = None

    @property
    def language(self) -> str | None:
        """The language the reference is bound to, if it is."""
        return self.stored.origin.language if self.stored else None

    def activations(self, clip: Clip, language: str, max_new_tokens: int = 1) -> Activations:
        """The stored activations, or those of `clip`, computed now."""
        if self.stored:
            return self.stored
        from . import reference  # late: torch is slow to import and may not be there

        assert self.tokenizer is not None
        return reference.run(self.lm, self.tokenizer, clip, language, max_new_tokens)


def find_reference(source: str, tokenizer: str | None, clip: Clip) -> Reference:
    """The reference that `source` names: a file that `mimo-check reference` wrote, `tiny`, a folder or a Hub id.

    `tokenizer` is the audio tokenizer's checkpoint beside a speech LM's. Raises InputError if it is none of these, or
    if it takes PyTorch, which is not installed.
    """
    if source == bundled.TINY and tokenizer in (None, bundled.TINY) and clip.sha256 == bundled.JFK_SHA256:
        return Reference(stored=Activations.load(bundled.TINY_REFERENCE))
    if Path(source).is_file():
        return Reference(stored=Activations.load(Path(source)))
    return open_reference(source, tokenizer)


def open_reference(source: str, tokenizer: str | None) -> Reference:
    """The checkpoints `source` and `tokenizer`, to be run in PyTorch. Raises InputError as `find_reference`."""
    if find_spec("torch") is None:
        raise InputError(
            source, "is a checkpoint, and comparing with one takes PyTorch, which is not installed",
            todo="pip install 'mimo-convert[reference]', or give a stored --reference, or --no-check",
        )  # fmt: skip
    model = checked(bundled.open_model(source))
    if family_of(model) is not mimo_asr.FAMILY:
        return Reference(tokenizer=model)
    return Reference(lm=model, tokenizer=checked(bundled.open_tokenizer(tokenizer, source)))


def checked(checkpoint: Checkpoint) -> Checkpoint:
    """The same checkpoint, if it could be converted: every tensor there, the vocabulary whole."""
    make_request(checkpoint, [F32])
    return checkpoint


def choose_language(asked: str | None, reference: Reference | None, clip: Clip) -> str:
    """The language of the prompt: as asked, else the stored reference's, else English for JFK, else automatic."""
    bound = reference.language if reference else None
    if bound and bound not in LANGUAGE_TAGS:
        raise InputError("reference", f"was made with the language {bound!r}", expected=" or ".join(LANGUAGE_TAGS))
    return asked or bound or ("english" if clip.sha256 == bundled.JFK_SHA256 else "auto")
