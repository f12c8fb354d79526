"""A history of 40 nightly runs, made up: what was recorded of four targets of the real model's size.

`GOOD` passes in every run, with a gap, a new file and a new numpy on the way; `FALLEN` fails since its file was
replaced in run 33, and failed once before; `AWAY` has two clips, and a server that no longer answers; `HEADER_TARGET`
is too large to be run; `RETIRED` is no longer asked for after run 20, and `NEW` was never run.
"""

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from mimo_families.registry import subject_of_earlier as subject_of
from mimo_nightly.history import (
    FAILED,
    HEADER,
    PASSED,
    UNCHECKED,
    WHOLE,
    FileRow,
    History,
    Problem,
    StageRow,
    TargetResult,
)  # fmt: skip

GOOD, FALLEN, AWAY, HEADER_TARGET = "asr-q4_k", "hub-asr-q8_0", "audio-instruct", "asr-f16"
RETIRED, NEW = "asr-q5_0", "asr-q6_k"
NAMES = [GOOD, FALLEN, AWAY, HEADER_TARGET, NEW]
TOKENIZER = "mimo-tokenizer-q4_k.gguf"
RUNS = 40
LAYERS = 36
NEW_FILE, NEW_NUMPY, GAPS, FELL, FAILED_ONCE, AWAY_SINCE, NO_NUMBER = 14, 25, (18, 19, 20), 33, 21, 38, 30
CLIP = "jfk.wav"
PROBLEMS = [
    Problem("layer_20: cos_mean 0.612345, expected at least 0.979000", CLIP, "layer_20"),
    Problem("layer_21: cos_mean 0.602345, expected at least 0.979000", CLIP, "layer_21"),
    Problem("prefill_last_hidden: cos_mean 0.655000, expected at least 0.950000", CLIP, "prefill_last_hidden"),
    *(Problem(f"layer_{i} of jfk.wav: cos_mean 0.6 was 0.9988 on 2026-11-01T03:09:00Z (run 21); worse by 0.3988",
              CLIP, f"layer_{i}") for i in range(22, 36)),
    *(Problem(f"vocabulary: token {i} is '<|{i}|>', the checkpoint's is '|{i}|'") for i in range(12)),
]  # fmt: skip


def wave(*seeds: float) -> float:
    """From 0 to 1, never the same twice."""
    return (math.sin(sum((i + 1.7) * 12.9898 * (seed + 0.37) for i, seed in enumerate(seeds))) * 43758.5453) % 1


def begun(run: int) -> datetime:
    return datetime(2026, 10, 12, 3, 0) + timedelta(days=run - 1)


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def row(file: str, clip: str, stage: str, *metrics: float, **more: Any) -> StageRow:
    subject = subject_of(stage)
    return StageRow(file, clip, stage, subject.role, subject.kind, *metrics, **more)


def cosine_row(file: str, clip: str, stage: str, noise: float, *, passed: bool = True) -> StageRow:
    return row(file, clip, stage, 1 - noise, max(1 - 4 * noise, -0.2), math.sqrt(2 * noise), passed=passed)


def stages(target: str, run: int, lm: str, clip: str) -> Iterator[StageRow]:
    """What a run measured: the same figures until file or numpy change, and a little else then."""
    epoch = (run >= NEW_FILE) + (run >= NEW_NUMPY)
    fallen = target == FALLEN and run >= FELL
    missing = target == GOOD and run in GAPS
    size = {GOOD: 1.0, FALLEN: 0.2}.get(target, 0.6)
    for i, name in enumerate(("tok_mel", "tok_conv1", "tok_conv2", "tok_xfmr", "tok_pool")):
        yield cosine_row(TOKENIZER, clip, name, size * (1e-7 if i < 3 else 1.5e-3) * (1 + i + 0.1 * wave(i, epoch)))
    yield row(TOKENIZER, clip, "tok_codes", agreement=0.8123 - 0.01 * epoch)
    for i, name in enumerate(("prefill_audio_features", "prefill_text_embeds", "prefill_inputs_embeds")):
        yield cosine_row(lm, clip, name, size * 1e-3 * (1 + 0.1 * wave(i, epoch)))
    for i in range(LAYERS):
        if missing and i >= 20:
            continue
        noise = size * 1e-3 * 1.06**i * (1 + wave(i) + 0.2 * wave(i, epoch) + 0.01 * wave(i, run))
        fails = fallen and i >= 20
        yield cosine_row(lm, clip, f"layer_{i:02}", 0.38 + 0.01 * (i - 20) if fails else noise, passed=not fails)
    once = target == FALLEN and run == FAILED_ONCE
    last = 0.345 if fallen else 0.06 if once else size * 9e-3
    no_number = target == AWAY and run == NO_NUMBER
    if no_number:
        yield row(lm, clip, "prefill_last_hidden", math.nan, math.nan, math.nan, passed=False)
    else:
        yield cosine_row(lm, clip, "prefill_last_hidden", last, passed=not (fallen or once))
    if not missing:
        yield cosine_row(lm, clip, "prefill_text_logits_step0", last)
    kl = 2.5 if fallen else 0.011 * size * (1 + 0.2 * wave(epoch))
    yield row(lm, clip, "steps", agreement=0.41 if fallen else 26 / 27, kl_mean=kl, passed=not fallen)
    yield row(lm, clip, "cached", rel_rmse=1e-6 * (1 + wave(epoch)))
    yield row(lm, clip, "transcript", error_rate=8 / 22 if fallen else 0.0, passed=not fallen)


def files(target: str, run: int) -> list[FileRow]:
    number = {GOOD: 1 + (run >= NEW_FILE), FALLEN: 4 + (run >= FELL)}.get(target, 7)
    lm = FileRow(
        f"mimo-{target.removeprefix('hub-')}.gguf", f"{number}b8f03c2d9e41a67" * 4, 4_523_915_264 + 4096 * number
    )
    tokenizer = FileRow(TOKENIZER, "c0ffee1234567890" * 4, 402_653_184)
    if target == FALLEN:
        revision = f"{number}d0e5fab17" * 4
        return [FileRow(f.name, f.sha256, f.size, revision, f'"{f.sha256}"') for f in (lm, tokenizer)]
    return [lm, tokenizer]


def versions(run: int) -> dict[str, str]:
    return {
        "python": "3.11.7", "mimo-convert": "0.6.0", "ggml-python": "0.0.45", "gguf": "0.17.1",
        "numpy": "2.4.6" if run >= NEW_NUMPY else "2.4.5", "tokenizers": "0.22.1", "torch": "2.13.0",
    }  # fmt: skip


def result(target: str, run: int) -> TargetResult:
    """What a run found of a target."""
    state, scope, problems = PASSED, WHOLE, list[Problem]()
    lm = f"mimo-{target.removeprefix('hub-')}.gguf"
    clips = ("jfk.wav", "talk.flac") if target == AWAY else ("jfk.wav",)
    rows = [one for clip in clips for one in stages(target, run, lm, clip)]
    if target == FALLEN and run >= FELL:
        state, problems = FAILED, PROBLEMS
    elif target == FALLEN and run == FAILED_ONCE:
        state, problems = (
            FAILED,
            [
                Problem(
                    "prefill_last_hidden: cos_mean 0.940000, expected at least 0.950000", CLIP, "prefill_last_hidden"
                )
            ],
        )
    elif target == AWAY and run == NO_NUMBER:
        state, problems = FAILED, [Problem("prefill_last_hidden: not a number", CLIP, "prefill_last_hidden")]
    elif target == HEADER_TARGET:
        scope, rows = HEADER, []
    started = iso(begun(run) + timedelta(minutes=9 * NAMES.index(target) if target in NAMES else 50))
    if target == AWAY and run >= AWAY_SINCE:
        problem = "example/audio: the server does not answer: timed out after 30 s; try again, or see whether it is up"
        return TargetResult(run, target, started, 31.0, UNCHECKED, WHOLE, [Problem(problem)])
    seconds = 2.4 if scope == HEADER else 430.0 + 60 * wave(run)
    return TargetResult(
        run, target, started, seconds, state, scope, problems, files(target, run), versions(run),
        f"runs/{run}/{target}.html", rows,
    )  # fmt: skip


def history(folder: Path, *, unfinished: bool = False) -> History:
    """40 runs in `folder`/history.sqlite; `unfinished`: and one more, of which two targets are done."""
    made = History(folder / "history.sqlite")
    made.connection.execute("PRAGMA synchronous = OFF")
    for run in range(1, RUNS + 1 + unfinished):
        assert made.begin(iso(begun(run)), "c0" * 32) == run
        targets = NAMES[:2] if run > RUNS else [*NAMES[:4], *([RETIRED] if run <= 20 else [])]
        for target in targets:
            made.record(result(target, run))
        if run <= RUNS:
            made.finish(run, iso(begun(run) + timedelta(minutes=31)))
    return made
