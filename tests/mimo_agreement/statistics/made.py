"""Made-up answers: files that get some words wrong."""

import hashlib
import random
from collections.abc import Sequence

from mimo_agreement.records import Agreement, Answer, ModelFiles, Pair, SpokenClip
from mimo_agreement.statistics.agreement import agreement_of

VOCABULARY = (
    "river", "mountain", "paper", "window", "garden", "silver", "winter", "summer", "morning", "candle", "button",
    "orange", "doctor", "music",
)  # fmt: skip
SEED = 7
BASELINE = "f16"


def file_of(name: str, nbytes: int) -> ModelFiles:
    """A file whose SHA-256 is its name, with a companion."""
    return ModelFiles(f"{name}.gguf", name, nbytes, name.upper(), 4.5, "tok.gguf", "tok", 100)


def clip_of(number: int, n_words: int = 12, source: str = "") -> SpokenClip:
    """A clip with a text of its own, and a hash that has nothing to do with its number."""
    chosen = random.Random(number)
    sha256 = hashlib.sha256(str(number).encode()).hexdigest()
    text = " ".join(chosen.choices(VOCABULARY, k=n_words))
    return SpokenClip(f"clip{number}.wav", sha256, 3.0, text, source or sha256, "english")


def heard(text: str, wrong: float, seed: str) -> str:
    """A text of which each word is wrong with a probability."""
    chosen = random.Random(seed)
    return " ".join("nonsense" if chosen.random() < wrong else word for word in text.split())


def pair_of(file: ModelFiles, clip: SpokenClip, condition: str) -> Pair:
    return Pair(file.sha256, file.companion_sha256, clip.sha256, condition, SEED, "", "1")


def answer_of(transcript: str, **values: object) -> Answer:
    fields: dict[str, object] = {"tokens": 11, "ended": True, "loop": "", "seconds": 3.0}
    return Answer(transcript, **{**fields, **values})  # type: ignore[arg-type]


Answers = dict[tuple[str, str, str], tuple[Pair, Answer]]  # by a file's hash, a condition and a clip's name


def answers_of(files: dict[str, float], clips: Sequence[SpokenClip], conditions: Sequence[str]) -> Answers:
    """Answers of files by how often they get a word wrong."""
    return {
        (name, condition, clip.name): (
            pair_of(file_of(name, 1), clip, condition),
            answer_of(heard(clip.text or "", wrong, f"{name} {condition} {clip.name}")),
        )
        for name, wrong in files.items()
        for clip in clips
        for condition in conditions
    }


def made(
    files: dict[str, float], n_clips: int = 40, conditions: Sequence[str] = ("clean",), n_words: int = 12
) -> Agreement:
    """The agreement of files by how often they get a word wrong; the first is the baseline, the next is smaller."""
    clips = [clip_of(i, n_words) for i in range(n_clips)]
    answers = answers_of(files, clips, conditions)
    sized = [file_of(name, 10_000 - 1000 * i) for i, name in enumerate(files)]
    return agreement_of(sized, clips, conditions, answers.values(), baseline=next(iter(files)), seed=SEED)
