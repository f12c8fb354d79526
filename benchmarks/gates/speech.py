"""What every type costs decoder and vocoder: `python -m benchmarks.gates.speech` → docs/gates.md, and the rows of
`thresholds.SPEECH`.

The JFK clip is encoded, and the reference's codes are decoded, by a random audio tokenizer with as many layers as the
real one, but narrow, and by the bundled tiny one if it has a decoder.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.document import insert
from benchmarks.gates.__main__ import DOCUMENT, EXACT, HIGHEST, down, noise
from mimo_convert.model.checkpoint import Checkpoint, open_checkpoint
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.write.convert import convert
from mimo_families.mimo_tokenizer.decoder.reference import WINDOW
from mimo_families.mimo_tokenizer.decoder.stages import STAGES, WAVE, WAVE_CODES, WAVE_MEL
from mimo_families.mimo_tokenizer.round_trip import reference
from mimo_families.mimo_tokenizer.stages import ROLE, ROUND_TRIP
from mimo_families.mimo_tokenizer.system import SYSTEM
from mimo_families.registry import families
from quantize.types import TYPES
from runtime_check.audio.clips import Clip, read_clip
from runtime_check.audio.jfk import JFK
from runtime_check.run.activations import Activations
from runtime_check.run.check import check
from runtime_check.run.compare.thresholds import DECODER, SPECTRUM, VOCODER, CosineThreshold
from runtime_check.run.facts import file_facts
from runtime_check.run.records import Check, StageResult
from runtime_check.run.stages import stage_named
from runtime_check.run.system import Compute, Task, Work
from tests.opened import make_request, model_file, open_tiny_tokenizer
from tests.synthetic import DECODER_CONFIG, REAL_DECODER_CONFIG, REAL_TOKENIZER_CONFIG, write_audio_tokenizer

LAYERS = "encoder_layers", "decoder_layers", "vocoder_num_layers"
DEPTH = {name: (REAL_TOKENIZER_CONFIG | REAL_DECODER_CONFIG)[name] for name in LAYERS}
COLUMNS = (DECODER, VOCODER, SPECTRUM)
UNRELATED = 0.45  # log-mel difference; of unrelated codes it is 0.56, which no type may come near
LEAST_SHARE = 0.7  # of the wave's codes: with less it tells nothing, either
LEAST_COSINE = 0.3  # of a frame of a spectrum: below, phases are by chance, and the mean alone tells something
LEAST_SNR = 30.0  # dB: with more noise the ratio tells nothing that the log-mel does not


def main() -> None:
    """Measure every type, put the tables into the document, and print the rows."""
    text = DOCUMENT.read_text(encoding="utf-8")
    found: dict[str, list[Check]] = {name: [] for name in TYPES}
    with tempfile.TemporaryDirectory() as folder:
        for name, checkpoint in checkpoints(Path(folder)):
            clip = read_clip(JFK)
            expected = reference.run({ROLE: checkpoint}, clip, Task(ROUND_TRIP), None, "f32")
            checks = {outtype: measure(checkpoint, outtype, clip, expected, Path(folder) / "gguf") for outtype in TYPES}
            for outtype, result in checks.items():
                found[outtype].append(result)
            text = insert(text, f"speech {name}", table(checks))
    DOCUMENT.write_text(text, encoding="utf-8")
    for outtype, results in found.items():
        print(row(outtype, results))


def checkpoints(folder: Path) -> Iterator[tuple[str, Checkpoint]]:
    """The audio tokenizers that are measured."""
    yield "deep", open_checkpoint(str(write_audio_tokenizer(folder / "deep", **(DECODER_CONFIG | DEPTH))))
    if WINDOW in open_tiny_tokenizer().tensors:
        yield "tiny", open_tiny_tokenizer()


def measure(checkpoint: Checkpoint, outtype: str, clip: Clip, expected: Activations, out: Path) -> Check:
    """A type converted, run on the clip, and compared with the fp32 reference."""
    [plan] = convert([make_request(checkpoint, [TYPES[outtype]])], out, threads=2)
    model, files = model_file(out / plan.file_name), OpenFiles(families())
    system = SYSTEM.open({ROLE: model}, Compute(2), Work(clip.seconds, compared=True))
    facts = [file_facts(ROLE, model, files)]
    result = check(system, lambda: facts, clip, Task(ROUND_TRIP), lambda response: expected).check
    shutil.rmtree(out)
    return result


def stage_of(result: Check, name: str) -> StageResult:
    return next(stage for stage in result.stages if stage.name == name)


def worst(result: Check, column: str) -> CosineThreshold:
    """The worst cos_mean and cos_min of a column's stages."""
    pairs = [
        (found.cos_mean, found.cos_min)
        for found in result.stages
        if (stage := stage_named(STAGES, found.name)) and stage.threshold == column and found.cos_mean is not None
    ]
    return CosineThreshold(min(mean for mean, _ in pairs), min(least or 0.0 for _, least in pairs))


def row(outtype: str, results: list[Check]) -> str:
    """A row of `thresholds.SPEECH`: twice the worst noise, and codes that differ twice as often."""
    cells = []
    for column in COLUMNS:
        for part in (0, 1):
            cosines = [worst(result, column)[part] or 0.0 for result in results]
            power = max(map(noise, cosines))
            bound = 0.999 if outtype in EXACT else min(HIGHEST, (1 + 2 * power) ** -0.5)
            cells.append(down(bound) if min(cosines) > LEAST_COSINE else "-1")
    snr = min(stage_of(result, WAVE).snr_db or 0 for result in results) - 3
    log_mel = min(UNRELATED, 2 * max(stage_of(result, WAVE_MEL).log_mel or 0 for result in results))
    codes = min(stage_of(result, WAVE_CODES).agreement or 0 for result in results)
    least = f"{int(snr)}" if outtype in EXACT and snr > LEAST_SNR else "None"
    name = f'"{outtype}":'
    share = down(codes**2) if codes > LEAST_SHARE else None
    return f"    {name:<9} ({', '.join(cells)},  {least}, {log_mel:.2g}, {share}),"


def table(checks: Mapping[str, Check]) -> list[str]:
    """A line of Markdown for each type."""
    heads = ("type", *COLUMNS, "SNR of the wave, dB", "log-mel difference", "codes of the wave")
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for outtype, result in checks.items():
        columns = (worst(result, column) for column in COLUMNS)
        cells = [f"{cosines.cos_mean:.5f} / {cosines.cos_min:.5f}" for cosines in columns]
        cells.append(f"{stage_of(result, WAVE).snr_db or 0:.1f}")
        cells.append(f"{stage_of(result, WAVE_MEL).log_mel or 0:.2g}")
        cells.append(f"{stage_of(result, WAVE_CODES).agreement or 0:.1%}")
        lines.append(f"| {outtype} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
