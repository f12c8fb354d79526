"""What decoder and vocoder cost at the real size, and what streaming costs and changes → docs/benchmarks.md:
`python -m benchmarks.mimo_audio.decoding FILE.gguf`, of the real size (benchmarks/generate.py, then mimo-convert).

Streams are compared with decoding all codes at once by a narrow random audio tokenizer of the real depth, in F32.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.document import insert_lines
from benchmarks.gates.speech import DEPTH
from benchmarks.machine import bandwidth, machine
from mimo_convert.model.checkpoint import open_checkpoint
from mimo_convert.threads import default_threads
from mimo_convert.write.convert import convert
from mimo_families.mimo_tokenizer.decoder.harness import (
    SpeechDecoder,
    code_embeddings,
    code_inputs,
    decoder,
    vocoder,
)
from mimo_families.mimo_tokenizer.decoder.streaming import Cached, Redecoding, Stream, statistics_of
from quantize.types import F32
from runtime_check.ggml.graph import Backend, Graph, Weights
from runtime_check.run.compare.measures import snr_db
from tests.opened import make_request, model_file
from tests.synthetic import DECODER_CONFIG, write_audio_tokenizer

FRAMES, LONG, ROUNDS = 276, 552, 3  # code frames: JFK's, and twice as many; the middle one of all rounds counts
FRAMES_PER_SECOND = 25
CHUNKS = (25, 100)  # code frames, of a second and of four


def main(file: Path) -> None:
    """Measure, and put the tables into the document."""
    made = opened(file)
    insert_lines("decoding", [machine(), "", *costs(made)])
    with tempfile.TemporaryDirectory() as folder:
        deep = write_audio_tokenizer(Path(folder) / "deep", **(DECODER_CONFIG | DEPTH))
        [plan] = convert([make_request(open_checkpoint(str(deep)), [F32])], Path(folder), threads=2)
        insert_lines("streaming", streams(made, opened(Path(folder) / plan.file_name)))


def opened(file: Path) -> SpeechDecoder:
    model = model_file(file)
    return SpeechDecoder(model, Weights(model.file), Backend(default_threads()))


def random_codes(made: SpeechDecoder, n: int) -> Any:
    """Codes (n, 8)."""
    rng = np.random.default_rng(0)
    return np.stack([rng.integers(0, size, n, np.int32) for size in made.d.codebook_size[:8]], axis=1)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def costs(made: SpeechDecoder) -> list[str]:
    """Decoder, vocoder and inverse transform in turn, each beside reading its weights once."""
    codes, d, seconds = random_codes(made, FRAMES), made.d, FRAMES / made.d.frames_per_second
    graphs = [Graph(made.backend, made.weights, widen=True) for _ in range(2)]
    graphs[0].output("mel", decoder(graphs[0], code_embeddings(graphs[0], *codes.shape), d, lambda name, x: x))
    mel = graphs[0].run(code_inputs(codes))["mel"]
    graphs[1].output("spectrum", vocoder(graphs[1], graphs[1].input("mel", mel.shape), d, lambda name, x: x))
    spectrum = graphs[1].run({"mel": mel})["spectrum"]
    parts = {
        "decoder": (("dec.",), lambda: graphs[0].run(code_inputs(codes))),
        "vocoder": (("voc.",), lambda: graphs[1].run({"mel": mel})),
        "inverse transform": ((), lambda: made.samples(spectrum)),
    }
    lines = ["| | s a second of audio | reading its weights once |", "| --- | --- | --- |"]
    total = 0.0
    for name, (prefixes, work) in parts.items():
        took = sorted(timed(work)[0] for _ in range(ROUNDS))[ROUNDS // 2] / seconds
        nbytes = sum(t.nbytes for t in made.weights.file.tensors.values() if t.name.startswith(prefixes) and prefixes)
        bound = nbytes / bandwidth(max(nbytes, 1 << 26), made.backend.threads) / seconds
        lines.append(f"| {name} | {took:.3f} | {f'{bound:.4f}, {nbytes / 1e6:,.0f} MB' if prefixes else ''} |")
        total += took
    lines.append(f"| together | {total:.3f} | |")
    return [*lines, "", f"Graphs took at most {made.backend.peak / 1e9:.2f} GB beside the mapped file."]


def streams(made: SpeechDecoder, deep: SpeechDecoder) -> list[str]:
    """A line for each way and chunk: its cost with the real sizes, and its distance from decoding at once."""
    codes, deep_codes = random_codes(made, LONG), random_codes(deep, LONG)
    expected, frozen = deep.decode(deep_codes), statistics_of(deep, deep_codes)
    hop = expected.size // LONG
    ways: dict[str, Callable[[SpeechDecoder], Stream]] = {
        "as published": lambda made: Redecoding(made.decode, hop),
        "cached, running statistics": Cached,
        "cached, the whole's statistics": lambda made: Cached(made, *frozen),
    }
    lines = ["| | chunk | s a second of audio | SNR to decoding at once, dB |", "| --- | --- | --- | --- |"]
    for name, way in ways.items():
        for chunk in CHUNKS:
            snr = snr_db(streamed(way(deep), deep_codes, chunk), expected)
            took = sorted(cost(way(made), codes, chunk) for _ in range(ROUNDS))[ROUNDS // 2]
            lines.append(f"| {name} | {chunk} frames | {took:.3f} | {snr:.0f} |")
    return lines


def cost(stream: Stream, codes: Any, chunk: int) -> float:
    """Seconds for a second of audio, of two chunks behind as many codes as a stream keeps."""
    held = Redecoding.LEFT + Redecoding.RIGHT
    stream.push(codes[:held])
    begin = time.perf_counter()
    for i in range(2):
        stream.push(codes[held + i * chunk : held + (i + 1) * chunk])
    return (time.perf_counter() - begin) / (2 * chunk) * FRAMES_PER_SECOND


def streamed(stream: Stream, codes: Any, chunk: int) -> Any:
    """The samples of codes that come in chunks."""
    starts = range(0, len(codes), chunk)
    return np.concatenate([stream.push(codes[i : i + chunk], last=i == starts[-1]) for i in starts])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
