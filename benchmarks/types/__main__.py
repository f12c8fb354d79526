"""What each type costs: `python -m benchmarks.types` → README.md and docs/types.md, in some minutes.

Bytes are those of the published shapes. The rest is measured on tiny: KL divergence with teacher forcing, whose codes
are the reference's; words that the files hear by themselves, LMs of fewer than 8 bits with a tokenizer of Q8_0.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.document import insert
from benchmarks.machine import machine
from mimo_convert.formats.config import Config
from mimo_convert.model.family import Family
from mimo_convert.threads import default_threads
from mimo_convert.write.convert import convert
from mimo_families.mimo_audio import reference
from mimo_families.mimo_audio.layout import FAMILY as SPEECH_LM
from mimo_families.mimo_tokenizer.layout import FAMILY as AUDIO_TOKENIZER
from quantize.recipes import choose_type
from quantize.types import TYPES, Type
from runtime_check.audio.clips import Clip
from runtime_check.run.records import Steps
from runtime_check.run.system import Task
from runtime_check.text.words import NO_WORDS, WordErrors, count_words
from tests.opened import check_pair, make_request, open_pair, open_tiny, open_tiny_tokenizer
from tests.synthetic import REAL_ASR_CONFIG, REAL_TOKENIZER_CONFIG

from .clips import AT_THE_EDGE, LOUD, SEEDS, noisy_clips

ROOT = Path(__file__).parents[2]
README, DOCUMENT = ROOT / "README.md", ROOT / "docs" / "types.md"
SHORT = ("f16", "q8_0", "q6_k", "q5_k", "q4_k", "q3_k", "q2_k")  # those that most people choose among
LEAST_TOKENIZER_BITS = 8
TASK = Task(language="english")
HEAD = ("| type | `mimo-asr` | `mimo-tokenizer` | KL divergence | same top-1 token | words wrong |", "|" + " --- |" * 6)


@dataclass(frozen=True)
class Row:
    """A type: bytes of both files at the real size, mean KL divergence in nats, share of equal top-1 tokens, words."""

    type: Type
    tokenizer: Type
    lm_bytes: int
    tokenizer_bytes: int
    kl: float
    top1: float
    words: WordErrors

    @property
    def line(self) -> str:
        """A line of Markdown."""
        tokenizer = "" if self.tokenizer is self.type else f" ({self.tokenizer.name})"
        sizes = f"{self.lm_bytes / 1e9:.2f} GB | {self.tokenizer_bytes / 1e9:.2f} GB{tokenizer}"
        return f"| {self.type.name} | {sizes} | {self.kl:.1e} | {self.top1:.1%} | {words_text(self.words)} |"


def main() -> None:
    """Measure, print, and put the tables into their documents."""
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder))
    loud, edge = (", ".join(map(str, levels)) for levels in (LOUD, AT_THE_EDGE))
    about = [
        f"Measured on {machine()}",
        f"Sizes: the published shapes. The rest: tiny on JFK with white noise, {len(SEEDS)} seeds for each level;",
        f"KL divergence and top-1 tokens at {loud} dB, words at {edge} dB.",
        "",
    ]
    write(README, [*HEAD, *(row.line for row in rows if row.type.name in SHORT)])
    write(DOCUMENT, [*about, *HEAD, *(row.line for row in rows)])


def write(document: Path, lines: Sequence[str]) -> None:
    """Print `lines`, and put them into `document`."""
    print("\n".join(lines))
    document.write_text(insert(document.read_text(encoding="utf-8"), "types", list(lines)), encoding="utf-8")


def measure(folder: Path) -> list[Row]:
    """Each type converted, compared with the fp32 reference, and made to write words."""
    lm, tokenizer, types = open_tiny(), open_tiny_tokenizer(), list(TYPES.values())
    convert([make_request(one, types) for one in (lm, tokenizer)], folder, threads=default_threads())
    checkpoints = {SPEECH_LM.role: lm, AUDIO_TOKENIZER.role: tokenizer}
    loud = [(clip, reference.run(checkpoints, clip, TASK, None, "f32")) for clip in noisy_clips(LOUD)]
    edge = list(noisy_clips(AT_THE_EDGE))
    rows = []
    for type in types:
        beside = tokenizer_type(type)
        files = folder / f"mimo-asr-{type.name}.gguf", folder / f"mimo-tokenizer-{beside.name}.gguf"
        checks = [check_pair(*files, clip, found, max_new_tokens=1).check for clip, found in loud]
        rows.append(row_of(type, beside, [check.steps for check in checks if check.steps], words_of(*files, edge)))
    return rows


def words_of(lm: Path, tokenizer: Path, clips: Sequence[Clip]) -> WordErrors:
    """The words of a pair of files, of all clips together."""
    system = open_pair(lm, tokenizer)
    return sum((count_words(clip.text or "", system.run(clip, TASK).transcript) for clip in clips), NO_WORDS)


def tokenizer_type(type: Type) -> Type:
    """The type of the audio tokenizer beside an LM of `type`."""
    return type if type.bits_per_weight >= LEAST_TOKENIZER_BITS else TYPES["q8_0"]


def row_of(type: Type, beside: Type, steps: Sequence[Steps], words: WordErrors) -> Row:
    """The row of a type."""
    return Row(
        type,
        beside,
        real_bytes(SPEECH_LM, REAL_ASR_CONFIG, type),
        real_bytes(AUDIO_TOKENIZER, REAL_TOKENIZER_CONFIG, beside),
        float(np.mean([one.kl_mean for one in steps])),
        float(np.mean([one.top1_agreement for one in steps])),
        words,
    )


def real_bytes(family: Family, config: dict[str, object], type: Type) -> int:
    """Bytes of the tensors of the published shapes in a type."""
    return sum(tensor_bytes(family, config, type))


def tensor_bytes(family: Family, config: dict[str, object], type: Type) -> Iterator[int]:
    """Bytes of each tensor."""
    dimensions = family.dimensions(Config(Path("config.json"), config))
    for tensor in family.tensors(dimensions, family.layout()):
        chosen, _ = choose_type(tensor.role, tensor.shape[-1], type)
        yield chosen.nbytes(int(np.prod(tensor.shape)))


def words_text(words: WordErrors) -> str:
    """Words that are wrong, of all."""
    return f"{words.errors} of {words.words}"


if __name__ == "__main__":
    main()
