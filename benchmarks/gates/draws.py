"""How far the worst position of tiny's layers strays from draw to draw of Q6_K's rounding errors → docs/gates.md.

`python -m benchmarks.gates.draws`: before each conversion every weight is changed by about what Q8_0 changes it by, so
that Q6_K rounds it another way. The last row is the file that mimo-quantize makes of tiny's Q8_0 file.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from mimo_commands.convert import main as mimo_convert
from mimo_commands.quantize import main as mimo_quantize
from runtime_check.audio.clips import read_clip
from runtime_check.audio.jfk import JFK
from tests.opened import TINY_ASR, TINY_REFERENCE, TINY_TOKENIZER, check_pair, load_reference

SEEDS, CHANGE = range(8), 0.004  # relative
LAYER = "layer_01"


def dithered(folder: Path, seed: int) -> Path:
    """Tiny's checkpoint with every matrix changed by Gaussian noise."""
    generator = torch.Generator().manual_seed(seed)
    for source in TINY_ASR.iterdir():
        if source.suffix != ".safetensors":
            (folder / source.name).write_bytes(source.read_bytes())
            continue
        weights = load_file(source)
        for name, w in weights.items():
            noise = 1 + CHANGE * torch.randn(w.shape, generator=generator) * (w.dim() > 1)
            weights[name] = (w.float() * noise).to(w.dtype)
        save_file(weights, folder / source.name)
    return folder


def files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The Q6_K file of each draw."""
    for seed in SEEDS:
        checkpoint, out = folder / f"{seed}", folder / f"gguf-{seed}"
        checkpoint.mkdir()
        options = ["--tokenizer", str(TINY_TOKENIZER), "--no-check", "--fuse-qkv", "--outtype", "q6_k"]
        run(mimo_convert, str(dithered(checkpoint, seed)), *options, "--out", str(out))
        yield f"seed {seed}", out / "mimo-asr-q6_k.gguf"
    run(mimo_quantize, str(folder / "q8_0/mimo-asr-q8_0.gguf"), str(folder / "two.gguf"), "--outtype", "q6_k")
    yield "by way of q8_0", folder / "two.gguf"


def run(command: object, *arguments: str) -> None:
    result = CliRunner().invoke(command, arguments)  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(mimo_convert, "tiny", "--no-check", "--fuse-qkv", "--outtype", "q8_0", "--out", str(folder / "q8_0"))
        clip, reference = read_clip(JFK), load_reference(TINY_REFERENCE)
        print("| draw | cos mean | cos min | rel RMSE |\n| --- | --- | --- | --- |")
        for draw, file in files(folder):
            check = check_pair(file, folder / "q8_0/mimo-tokenizer-q8_0.gguf", clip, reference).check
            [stage] = [stage for stage in check.stages if stage.name == LAYER]
            print(f"| {draw} | {stage.cos_mean:.5f} | {stage.cos_min:.5f} | {stage.rel_rmse:.4f} |", flush=True)


if __name__ == "__main__":
    main()
