"""What every type costs the positions of a text: `python -m benchmarks.gates.texts` → docs/gates.md.

The tiny pair is given its forty sentences as texts to speak, and behind each the groups that its F32 file generates
greedily; the stages of the speech LM are those of that file, and of each type's.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.document import insert_lines
from benchmarks.gates.__main__ import DOCUMENT
from benchmarks.tiny_speaks.__main__ import TEXTS, said, speaker_of
from mimo_families.mimo_audio.speech.stages import LAST_HIDDEN, LOCAL_INPUT
from mimo_families.mimo_audio.stages import layer
from quantize.types import TYPES
from runtime_check.run.activations import Stages
from runtime_check.run.compare.measures import cosines, norm_ratios
from runtime_check.run.compare.thresholds import PATCH, THRESHOLDS

COLUMNS = {layer(0): "layers", layer(1): "layers", LAST_HIDDEN: "last hidden", LOCAL_INPUT: PATCH}


def main() -> None:
    """Measure, print, and put the table into the document."""
    lines = [
        "| type | stage | median | bound | ratio of norms, median | within | mean | worst position |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as folder:
        exact = speaker_of("f32", Path(folder))
        replies = [said(exact, text) for text in TEXTS]
        theirs = [exact.force(reply).stages for reply in replies]
        for type in TYPES.values():
            if type.block > 1:
                of_type = speaker_of(type.name, Path(folder))
                lines += rows(type.name, [of_type.force(reply).stages for reply in replies], theirs)
                print("\n".join(lines[-len(COLUMNS) :]), flush=True)
    insert_lines("texts", lines, DOCUMENT)


def rows(type: str, ours: list[Stages], theirs: list[Stages]) -> Iterator[str]:
    """A row for each stage: the worst of all sentences."""
    for stage, column in COLUMNS.items():
        threshold = THRESHOLDS[type].columns[column]
        cos = [cosines(a[stage], b[stage]) for a, b in zip(ours, theirs, strict=True)]
        ratios = [float(np.median(norm_ratios(a[stage], b[stage]))) for a, b in zip(ours, theirs, strict=True)]
        ratio = max(ratios, key=lambda x: abs(np.log(x)))
        yield (
            f"| {type} | {stage} | {min(map(np.median, cos)):.4f} | {threshold.cos_mean:.3f} | {ratio:.3f} "
            f"| {threshold.norm_ratio:.3f} | {min(x.mean() for x in cos):.4f} | {min(x.min() for x in cos):.4f} |"
        )


if __name__ == "__main__":
    main()
