"""Where a reference comes from: a file of stored activations, a checkpoint run in PyTorch, or other GGUF files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from mimo_convert.checkpoint import Checkpoint
from mimo_convert.models import family_of, mimo_asr
from mimo_convert.request import make_request
from quantize.errors import InputError
from quantize.types import F32

from . import bundled
from .activations import Activations, Origin
from .prompt import LANGUAGE_TAGS
from .reference_file import load_reference
from .transcribe import Clip, Harness

Answer = Sequence[int] | None


@dataclass(frozen=True)
class Reference:
    """Something that knows what the stages of a clip should be.

    `activations(clip, language, answer)` gives them, with the logits that predict each token of `answer`, or of an
    answer of its own. `origin` is that of a stored one, which is of one clip alone.
    """

    activations: Callable[[Clip, str, Answer], Activations]
    origin: Origin | None = None


def find_reference(source: str, tokenizer: str | None, clips: Sequence[str], dtype: str = "f32") -> Reference:
    """The reference that `source` names: a file that `mimo-check reference` wrote, `tiny`, a folder or a Hub id.

    `tokenizer` is the audio tokenizer's checkpoint beside a speech LM's, `clips` the hashes of the sounds it is for.
    Raises InputError if it is none of these, or if it takes PyTorch, which is not installed.
    """
    is_jfk = set(clips) == {bundled.JFK_SHA256}
    if source == bundled.TINY and tokenizer in (None, bundled.TINY) and is_jfk and dtype == "f32":
        return stored_reference(bundled.TINY_REFERENCE)
    if Path(source).is_file():
        return stored_reference(Path(source))
    return checkpoint_reference(source, tokenizer, dtype)


def stored_reference(path: Path) -> Reference:
    """What `mimo-check reference` wrote. Raises InputError for any other file."""
    stored = load_reference(path)
    return Reference(lambda clip, language, answer: stored, stored.origin)


def checkpoint_reference(source: str, tokenizer: str | None, dtype: str = "f32", max_new_tokens: int = 1) -> Reference:
    """The checkpoints `source` and `tokenizer`, to be run in PyTorch. Raises InputError as `find_reference`.

    `max_new_tokens` is for a clip of which no answer is known.
    """
    run = pytorch_reference(source)
    model = checked(bundled.open_model(source))
    alone = family_of(model) is not mimo_asr.FAMILY
    lm, audio_tokenizer = (None, model) if alone else (model, checked(bundled.open_tokenizer(tokenizer, source)))

    def activations(clip: Clip, language: str, answer: Answer) -> Activations:
        return run(lm, audio_tokenizer, clip, language, answer=answer, max_new_tokens=max_new_tokens, dtype=dtype)

    return Reference(activations)


def pytorch_reference(source: str) -> Callable[..., Activations]:
    """`reference.run`, which needs PyTorch: slow to import, it may not be there, or broken, which is known before long
    work. Raises InputError, about the checkpoint `source`."""
    what = "is a checkpoint, and comparing with one takes PyTorch, which"
    otherwise = "or give a stored --reference, or --no-check"
    if find_spec("torch") is None:
        raise InputError(source, f"{what} is not installed", todo=f"pip install 'mimo-convert[reference]', {otherwise}")
    try:
        from . import reference
    except Exception as error:  # whatever its libraries raise
        problem = f"cannot be imported ({type(error).__name__}: {error})"
        raise InputError(source, f"{what} {problem}", todo=f"install it again, {otherwise}") from error
    return reference.run


def file_reference(open_harness: Callable[[], Harness], max_new_tokens: int | None = None) -> Reference:
    """Other GGUF files, which say by themselves what the answer is, in up to `max_new_tokens`."""
    harness = cache(open_harness)

    def activations(clip: Clip, language: str, answer: Answer) -> Activations:
        return harness().run(clip, language, max_new_tokens or clip.longest_answer, keep_stages=True)

    return Reference(activations)


def checked(checkpoint: Checkpoint) -> Checkpoint:
    """The same checkpoint, if it could be converted: every tensor there, the vocabulary whole."""
    make_request(checkpoint, [F32])
    return checkpoint


def choose_language(asked: str | None, reference: Reference | None, clip: Clip) -> str:
    """The language of the prompt: as asked, else the stored reference's, else English for JFK, else automatic."""
    bound = reference.origin.language if reference and reference.origin else None
    if bound and bound not in LANGUAGE_TAGS:
        raise InputError("reference", f"was made with the language {bound!r}", expected=" or ".join(LANGUAGE_TAGS))
    return asked or bound or ("english" if clip.sha256 == bundled.JFK_SHA256 else "auto")
