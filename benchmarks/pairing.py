"""Which audio tokenizer belongs to which speech LM: `python -m benchmarks.pairing` → docs/benchmarks.md.

Twenty of the sentences that tiny was trained on, spoken by espeak-ng (apt install espeak-ng) in white noise. Each pair
of types is run on each, beside the fp32 reference in PyTorch: word errors, and the KL divergence of the next-token
distributions over the reference's own response, from the codes of the pair's own audio tokenizer.
"""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from benchmarks.document import insert_lines
from benchmarks.machine import machine
from mimo_convert.threads import default_threads
from mimo_convert.write.convert import convert
from mimo_families.mimo_audio import reference
from mimo_families.mimo_audio.stages import ROLE
from mimo_families.mimo_tokenizer.stages import CODES
from mimo_families.mimo_tokenizer.stages import ROLE as TOKENIZER
from quantize.types import TYPES
from runtime_check.audio.clips import Clip
from runtime_check.run.activations import RESPONSE, RESPONSE_LOGITS, Activations
from runtime_check.run.compare.measures import kl_divergence, log_softmax
from runtime_check.run.system import System, Task
from runtime_check.text.words import NO_WORDS, WordErrors, count_words
from tests.opened import make_request, open_pair, open_tiny, open_tiny_tokenizer
from tools.train_tiny.configs import TOKENIZER_CONFIG
from tools.train_tiny.speech import VOICES, espeak
from tools.train_tiny.text import SENTENCES

LM_TYPES = ("f16", "q8_0", "q6_k", "q5_k", "q4_k", "q3_k", "q2_k")
TOKENIZER_TYPES = ("f16", "q8_0", "q4_k")
N_CLIPS, SEED = 20, 1961
TASK = Task(language="english", max_new_tokens=64)


@dataclass(frozen=True)
class Measured:
    """A pair of types on all clips: word errors, by what is said and by the reference's transcript; clips with that
    transcript; the share of equal codes; mean KL divergence in nats of each clip, (clips,)."""

    said: WordErrors
    words: WordErrors
    same: int
    codes: float
    kl: np.ndarray[tuple[int], np.dtype[np.float64]]


@click.command()
@click.option(
    "--snr", "levels", type=float, multiple=True, default=(15, 10), show_default=True, help="Speech by noise in dB."
)
def main(levels: tuple[float, ...]) -> None:
    """Measure, print, and put the tables into docs/benchmarks.md."""
    checkpoints = {ROLE: open_tiny(), TOKENIZER: open_tiny_tokenizer()}
    lines = [f"Measured on {machine()}"]
    with tempfile.TemporaryDirectory() as name:
        files = {
            role: dict(zip(types, convert_to(checkpoint, types, Path(name)), strict=True))
            for (role, checkpoint), types in zip(checkpoints.items(), (LM_TYPES, TOKENIZER_TYPES), strict=True)
        }
        for snr in levels:
            clips = list(noisy_clips(snr))
            expected = [reference.run(checkpoints, clip, TASK, None, "f32") for clip, _ in clips]
            found = {
                (lm, tokenizer): measure(open_pair(files[ROLE][lm], files[TOKENIZER][tokenizer]), clips, expected)
                for lm in LM_TYPES
                for tokenizer in TOKENIZER_TYPES
            }
            lines += ["", head(snr, clips, expected), "", *table(found)]
    insert_lines("pairing", lines)


def head(snr: float, clips: Sequence[tuple[Clip, str]], expected: Sequence[Activations]) -> str:
    """The clips of a table, and how well the reference does."""
    errors = [count_words(text, theirs.transcript) for (_, text), theirs in zip(clips, expected, strict=True)]
    whole, right = sum(errors, NO_WORDS), sum(one.errors == 0 for one in errors)
    return (
        f"At {snr:g} dB: {len(clips)} clips, {sum(clip.seconds for clip, _ in clips):.0f} s, {whole.words} words. The "
        f"fp32 reference makes {whole.errors} word errors, and none in {right} clips."
    )


def noisy_clips(snr: float) -> Iterator[tuple[Clip, str]]:
    """Clips without a reference text, and what is said in each."""
    noise = np.random.default_rng(SEED)
    sentences = SENTENCES.read_text(encoding="utf-8").splitlines()
    for number, text in enumerate(sentences[:: len(sentences) // N_CLIPS][:N_CLIPS]):
        spoken = espeak(text, *VOICES[number % len(VOICES)]).spoken.numpy()
        rms = float(np.sqrt(np.square(spoken).mean()))
        wave = spoken + (rms * 10 ** (-snr / 20) * noise.standard_normal(len(spoken))).astype(np.float32)
        sha256 = hashlib.sha256(wave.tobytes()).hexdigest()
        yield Clip(Path(f"{number}.wav"), wave, TOKENIZER_CONFIG["sampling_rate"], sha256), text


def convert_to(checkpoint: object, types: Sequence[str], out: Path) -> list[Path]:
    """The file of each type."""
    request = make_request(checkpoint, [TYPES[name] for name in types])  # type: ignore[arg-type]
    return [out / plan.file_name for plan in convert([request], out, threads=default_threads())]


def measure(system: System, clips: Sequence[tuple[Clip, str]], expected: Sequence[Activations]) -> Measured:
    """Run a system on every clip, beside the reference."""
    said, words, same, codes, kl = NO_WORDS, NO_WORDS, 0, [], []
    for (clip, text), theirs in zip(clips, expected, strict=True):
        run = system.run(clip, TASK)
        said += count_words(text, run.transcript)
        words += count_words(theirs.transcript, run.transcript)
        same += run.transcript == theirs.transcript
        codes.append(float((run.stages[CODES] == theirs.stages[CODES]).mean()))
        forced = system.teacher_force(run, {CODES: run.stages[CODES], RESPONSE: theirs.stages[RESPONSE]}, TASK)
        steps = zip(theirs.stages[RESPONSE_LOGITS], forced[RESPONSE_LOGITS], strict=True)
        kl.append(np.mean([kl_divergence(log_softmax(p), log_softmax(q)) for p, q in steps]))
    return Measured(said, words, same, float(np.mean(codes)), np.array(kl))


def table(found: Mapping[tuple[str, str], Measured]) -> list[str]:
    """A line of Markdown for each pair; a KL divergence is beside that with the F16 tokenizer, with the standard error
    of the mean difference over the clips."""
    columns = (
        "speech LM", "audio tokenizer", "equal codes", "word errors", "words unlike the reference's",
        "equal transcripts", "KL", "beside f16",
    )  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    for (lm, tokenizer), one in found.items():
        more = one.kl - found[lm, TOKENIZER_TYPES[0]].kl
        error = more.std(ddof=1) / len(more) ** 0.5
        beside = "" if tokenizer == TOKENIZER_TYPES[0] else f"{more.mean():+.4f} ± {error:.4f}"
        cells = (
            lm, tokenizer, f"{one.codes:.1%}", str(one.said.errors), str(one.words.errors),
            f"{one.same} of {len(more)}", f"{one.kl.mean():.4f}", beside,
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
