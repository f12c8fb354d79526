"""Command lines whose files stay as version 0.5.0 wrote them, and what such files hold by the `gguf` library."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import gguf
import numpy as np

from quantize.types import TYPES
from tests.conftest import SMALL_LM, SMALL_TOKENIZER
from tests.damage import set_weight
from tests.opened import TINY_ASR, TINY_TOKENIZER
from tests.synthetic import write_audio_tokenizer, write_speech_lm

RECORDED = Path(__file__).parents[2] / "data" / "files-0.5.0.json"

# Metadata that may differ: the version that wrote the file; the files that lie between it and the checkpoint, of which
# 0.5.0 recorded only those with blocks, and nothing but their types. GGUF.kv_count counts these keys, too.
MAY_DIFFER = re.compile(
    r"GGUF\.kv_count|mimo_convert\.version|mimo_convert\.quantized_from(\.\d+\.(types|quantizer|version))?"
)
# Not in the recorded hashes: which kernels made the blocks depends on the processor, the blocks do not.
OF_THE_PROCESSOR = "mimo_convert.quantizer"

PAIRS = ("tiny", "random", "random-f32")
RECORDED_PAIRS = PAIRS[:2]  # the tests take 20 s of CPU for them
LAYOUTS = {"separate": ["--split-qkv"], "fused": ["--fuse-qkv"]}
PARTS = {"whole": [], "asr-only": ["--asr-only"]}
RULES = ["--tensor-type", r"layers\.0\..*ffn=q8_0", "--tensor-type", "embed=f16", "--tensor-type", "attn=q6_k"]
REQUANTIZED = {
    "f16": ["f32", "bf16", "q8_0", "q6_k", "q4_k"],
    "bf16": ["f16", "q5_k", "q4_1", "q2_k"],
    "q8_0": ["f16", "q5_0", "q3_k", "iq4_xs"],
}


class Command(NamedTuple):
    """A command line: the program, and its arguments."""

    program: str
    arguments: list[str]


def write_checkpoints(folder: Path) -> None:
    """Write each pair of checkpoints: `folder`/PAIR/asr and `folder`/PAIR/tokenizer.

    Both random ones have rows of 256, 192, 128 and 48 weights; that in F32 has a weight beyond F16's range.
    """
    shutil.copytree(TINY_ASR, folder / "tiny" / "asr")
    shutil.copytree(TINY_TOKENIZER, folder / "tiny" / "tokenizer")
    for pair, dtype in (("random", "BF16"), ("random-f32", "F32")):
        write_speech_lm(folder / pair / "asr", dtype=dtype, **SMALL_LM)
        write_audio_tokenizer(folder / pair / "tokenizer", dtype=dtype, **SMALL_TOKENIZER)
    set_weight(folder / "random-f32" / "asr", "model.layers.1.mlp.up_proj.weight", 3, 1e5)


def commands(pair: str, checkpoints: Path, out: Path) -> Iterator[Command]:
    """The command lines that make the files of `pair`, all below `out`, in the order in which they can run; each must
    have run when the next is asked for."""
    lm, tokenizer, out = checkpoints / pair / "asr", checkpoints / pair / "tokenizer", out / pair
    every_type = [word for name in TYPES for word in ("--outtype", name)]
    for layout, of_layout in LAYOUTS.items():
        for parts, of_parts in PARTS.items():
            options = [*every_type, "--tokenizer-outtype", "q8_0", *of_layout, *of_parts]
            yield convert(lm, out / f"{layout}-{parts}", "--tokenizer", tokenizer, *options)
    yield convert(tokenizer, out / "tokenizer", *every_type, *PARTS["asr-only"])  # 0.5.0 wrote no decoder
    mixes = ["--outtype", "q4_k", "--outtype", "bf16", "--tokenizer-outtype", "q4_k", *RULES]
    yield convert(lm, out / "rules", "--tokenizer", tokenizer, *mixes)
    name_as_0_5_0(out / "rules")
    separate, fused = out / "separate-whole", out / "fused-whole"
    for source, targets in REQUANTIZED.items():
        name, made = f"mimo-asr-{source}.gguf", out / f"from-{source}"
        yield quantize(separate / name, made / "fused.gguf", *LAYOUTS["fused"])
        yield quantize(fused / name, made / "separate.gguf", *LAYOUTS["separate"])
        yield quantize(separate / name, made / "asr-only.gguf", *PARTS["asr-only"])
        for target in targets:
            yield quantize(separate / name, made / f"{target}.gguf", "--outtype", target)
    for source, target in (("q6_k", "q4_k"), ("q4_k", "q8_0"), ("q5_0", "bf16")):
        made = out / f"from-{source}" / f"{target}.gguf"
        yield quantize(fused / f"mimo-asr-{source}.gguf", made, "--outtype", target, "--allow-requantize")
    yield quantize(out / "rules" / "mimo-asr-q4_k.gguf", out / "from-rules" / "fused.gguf", *LAYOUTS["fused"])
    for target in ("q8_0", "q4_k"):
        of_tokenizer = out / "tokenizer" / "mimo-tokenizer-f16.gguf"
        yield quantize(of_tokenizer, out / "tokenizer-from-f16" / f"{target}.gguf", "--outtype", target)


def name_as_0_5_0(folder: Path) -> None:
    """Give mixes, which were just made, the names that they had before they had their own."""
    for file in folder.glob("*-mix.gguf"):
        file.rename(file.with_name(file.name.replace("-mix.gguf", ".gguf")))


def convert(checkpoint: Path, out: Path, *options: object) -> Command:
    """mimo-convert, without the check."""
    return Command("mimo-convert", [*map(str, (checkpoint, "--no-check", "--out", out, *options))])


def quantize(source: Path, target: Path, *options: object) -> Command:
    """mimo-quantize."""
    return Command("mimo-quantize", [*map(str, (source, target, *options))])


class Contents(NamedTuple):
    """What a file holds: tensors (name, type, shape, offset, sha256 of the bytes) and metadata (key, types, value) in
    their order; `data` is the sha256 of the whole data section, padding included."""

    tensors: list[tuple[Any, ...]]
    metadata: list[tuple[Any, ...]]
    data: str

    def digest(self) -> dict[str, str]:
        """Two hashes, of all tensors and of the metadata that depends on the input and the command alone."""
        metadata = [entry for entry in self.metadata if entry[0] != OF_THE_PROCESSOR]
        return {"tensors": json_hash([self.tensors, self.data]), "metadata": json_hash(metadata)}


def read_contents(path: Path) -> Contents:
    """Read a file by the `gguf` library; without the metadata that may differ."""
    with patch("numpy.memmap", lambda path, mode: np.fromfile(path, np.uint8)):  # slices of an array take half the time
        reader = gguf.GGUFReader(path)
    return Contents(
        [
            (t.name, t.tensor_type.name, [*map(int, t.shape)], int(t.data_offset) - reader.data_offset, sha256(t.data))
            for t in reader.tensors
        ],
        [
            (key, [type.name for type in field.types], field.contents())
            for key, field in reader.fields.items()
            if not MAY_DIFFER.fullmatch(key)
        ],
        sha256(reader.data[reader.data_offset :]),
    )


def json_hash(value: object) -> str:
    """The sha256 of a value in JSON."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def sha256(data: Any) -> str:
    """The sha256 of an array's bytes."""
    return hashlib.sha256(data).hexdigest()


def digests(out: Path, pair: str) -> dict[str, dict[str, str]]:
    """Two hashes for each file of `pair`, by its path below `out`."""
    files = sorted((out / pair).rglob("*.gguf"))
    return {file.relative_to(out).as_posix(): read_contents(file).digest() for file in files}
