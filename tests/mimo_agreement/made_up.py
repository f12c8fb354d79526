"""Agreement as a real model's would be: made up, for the tests of its reports."""

from collections.abc import Mapping
from dataclasses import replace

from mimo_agreement.records import (
    ALL_CONDITIONS,
    WORDS,
    Agreement,
    ModelFiles,
    Quarantined,
    Row,
    SpokenClip,
    WorstClip,
)
from runtime_check.report.safe_text import with_texts
from runtime_check.run.compare.fidelity import Estimate
from runtime_check.text.words import WordErrors

CONDITIONS = ("clean", "noise:babble:5dB", "reverb:0.6s")
TOKENIZER = "f" * 64
TYPES = {  # type → bits per weight, WER, KL divergence
    "q2_k": (2.96, 0.094, 0.31), "q3_k": (3.66, 0.0655, 0.06), "q4_0": (4.5, 0.0551, 0.031),
    "q4_k": (4.51, 0.0532, 0.018), "q5_k": (5.51, 0.0524, 0.0052), "q8_0": (8.5, 0.0521, 0.0002),
    "f16": (16.0, 0.0519, 0.00004),
}  # fmt: skip
WEIGHTS = 8_000_000_000
WORDS_SPOKEN = 2400
FACTORS = {"clean": 0.5, "noise:babble:5dB": 1.8, "reverb:0.6s": 0.7, ALL_CONDITIONS: 1.0}


def sha(name: str) -> str:
    """A SHA-256 that is made of a name."""
    return name.encode().hex().ljust(64, "0")


BASELINE = sha("f16")


def agreement() -> Agreement:
    """Seven files on four clips in three conditions."""
    return Agreement(
        baseline=BASELINE,
        unit=WORDS,
        has_texts=True,
        seed=0,
        conditions=CONDITIONS,
        clips=tuple(clip(i) for i in range(4)),
        files=tuple(map(model_files, TYPES)),
        rows=tuple(row(name, condition) for condition in (*CONDITIONS, ALL_CONDITIONS) for name in TYPES),
        worst=tuple(worst(name, i) for name in TYPES for i in range(2)),
        front_wer=tuple(map(sha, ("q2_k", "q3_k", "q4_k", "q5_k", "q8_0", "f16"))),
        front_kl=tuple(map(sha, TYPES)),
        smallest=sha("q4_k"),
        verdict=(
            "Smallest file within 1 point of the baseline: mimo-asr-q4_k.gguf, 5.26 GB (WER 5.32%, of the baseline "
            "5.19%; at most +0.61 points, 95 % interval)."
        ),
        versions={"mimo-convert": "0.8.0", "ggml-python": "0.0.37"},
    )


def clip(i: int) -> SpokenClip:
    source = sha(f"speaker {i // 2}")
    return SpokenClip(f"clip-{i}.wav", sha(f"clip {i}"), 8.5 + i, f"ask not what {i}", source, "english")


def model_files(name: str) -> ModelFiles:
    bits = TYPES[name][0]
    return ModelFiles(
        f"/models/mimo-asr-{name}.gguf", sha(name), round(WEIGHTS * bits / 8), name, bits,
        "/models/mimo-tokenizer-q8_0.gguf", TOKENIZER, 750_000_000,
    )  # fmt: skip


def row(name: str, condition: str) -> Row:
    _, rate, kl = TYPES[name]
    factor, base = FACTORS[condition], TYPES["f16"][1]
    more = rate - base
    errors = WordErrors(WORDS_SPOKEN, round(WORDS_SPOKEN * rate * factor), 3, 2)
    beside = WordErrors(WORDS_SPOKEN, round(WORDS_SPOKEN * more * factor * 1.5), 0, 0)
    return Row(
        file=sha(name),
        condition=condition,
        clips=4,
        seconds=40.0,
        errors=errors,
        wer=around(rate * factor, 0.15),
        beside_baseline=beside,
        disagreement=around(more * factor * 1.5, 0.3),
        difference=Estimate(more * factor, more * factor - 0.004, more * factor + 0.004) if more else around(0.0, 0.0),
        is_worse=more * factor > 0.004,
        is_better=False,
        kl=around(kl * factor, 0.2),
        loops=int(name == "q2_k"),
        empty=0,
        over_long=int(name == "q2_k"),
        real_time=0.45,
        peak_memory=6_000_000_000,
    )


def around(value: float, share: float) -> Estimate:
    return Estimate(value, value * (1 - share), value * (1 + share))


def worst(name: str, i: int) -> WorstClip:
    text = "And so, my fellow Americans, ask not what your country can do for you."
    heard = f"And so my fellow Americans ask now what {name} country can do for you you."
    return WorstClip(sha(name), f"clip-{i}.wav", sha(f"clip {i}"), CONDITIONS[1], WordErrors(14, 2, 0, 1), text, heard)


def without_texts() -> Agreement:
    """The same, if nobody had written down what is said."""
    found = agreement()
    unknown = Estimate(None, None, None)
    rows = (replace(row, errors=WordErrors(0), wer=unknown, difference=row.disagreement) for row in found.rows)
    clips = (replace(clip, text=None) for clip in found.clips)
    return replace(found, has_texts=False, rows=tuple(rows), clips=tuple(clips))


def unanswered() -> Agreement:
    """The same, with a pair that has no answer, and a note of it."""
    gone = Quarantined(sha("q3_k"), "clip-3.wav", "reverb:0.6s", 3, "killed by SIGSEGV")
    note = "mimo-asr-q3_k.gguf has no answer to 1 of 12 pairs of clip and condition: they count for no file"
    return replace(agreement(), quarantined=(gone,), notes=(note,))


def of_one_condition() -> Agreement:
    """The same on clean speech alone."""
    found = agreement()
    rows = tuple(row for row in found.rows if row.condition in ("clean", ALL_CONDITIONS))
    return replace(found, conditions=("clean",), rows=rows, worst=())


def of_files(files: Mapping[str, tuple[str, str]], companion: str = TOKENIZER) -> Agreement:
    """The same, with the names and SHA-256 of other files in the place of some types, and of their companion."""
    hashes = {sha(label): sha256 for label, (_, sha256) in files.items()} | {TOKENIZER: companion}
    names = {f"/models/mimo-asr-{label}.gguf": f"/models/{name}" for label, (name, _) in files.items()}
    found: Agreement = with_texts(agreement(), lambda text: {**hashes, **names}.get(text, text))
    return found
