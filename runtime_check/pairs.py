"""Which files belong together: a speech LM's and its audio tokenizer's, by their names."""

from pathlib import Path

from mimo_convert.gguf_file import read_gguf
from mimo_convert.models import mimo_asr, mimo_tokenizer
from quantize.errors import InputError

Files = tuple[Path | None, Path]  # a speech LM (None: an audio tokenizer alone), and an audio tokenizer
NAME_IT = "name it: --tokenizer"


def pair_of(file: Path, tokenizer: Path | None = None, todo: str = NAME_IT) -> Files:
    """A speech LM's file and its audio tokenizer's; or an audio tokenizer's alone.

    Raises InputError, with what there is `todo`, where it is not known which one that is.
    """
    if read_gguf(file).architecture == mimo_tokenizer.FAMILY.gguf:
        return None, file
    return file, tokenizer or find_tokenizer(file, todo)


def find_tokenizer(lm: Path, todo: str) -> Path:
    """The audio tokenizer's file beside a speech LM's: of the same type, else the only one there.

    Raises InputError if there is none, or a choice.
    """
    same = lm.with_name(lm.name.replace(mimo_asr.FAMILY.file_stem, mimo_tokenizer.FAMILY.file_stem))
    if same != lm and same.exists():
        return same
    found = sorted(lm.parent.glob(f"{mimo_tokenizer.FAMILY.file_stem}-*.gguf"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise InputError(lm, f"audio tokenizer files beside it: {names}", expected="one", todo=todo)
    return found[0]
