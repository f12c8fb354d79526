"""Weights in the mapped file and repacked, and layers against PyTorch."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ggml
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from mimo_commands.check import main as mimo_check
from mimo_convert.model.checkpoint import Checkpoint
from mimo_convert.model.source_model import model_of_checkpoint
from mimo_convert.plan.request import make_request
from mimo_convert.write.convert import convert
from mimo_families.qwen3_asr.llama_cpp.layout import MMPROJ
from quantize.types import F16, TYPES
from runtime_check.audio.clips import Clip
from runtime_check.audio.jfk import JFK_TEXT
from runtime_check.choices import AUTO, GGML, OFF, ON
from runtime_check.ggml import memory
from runtime_check.ggml.graph import Backend, Graph, Weights
from runtime_check.ggml.repack import (
    REPACK_SECONDS,
    SAVED_SECONDS,
    available_memory,
    multiplied,
    worth_repacking,
)
from runtime_check.products.library import variants
from runtime_check.pytorch import layers
from runtime_check.run.compare.measures import cosines
from runtime_check.run.system import Task, Work
from tests.opened import model_file, open_pair
from tests.runtime_check.conftest import Converter

# Types that ggml has a repacked layout for on every x86-64 with AVX2; others it may have on some machines.
REPACKED = {"q4_0", "q4_k", "iq4_nl"}


@pytest.mark.parametrize("outtype", list(TYPES))
def test_repacked_weights_give_the_same_stages(converted: Converter, jfk: Clip, outtype: str) -> None:
    paths = converted(outtype)
    task = Task(language="english", max_new_tokens=4)
    clip = replace(jfk, wave=jfk.wave[: 3 * jfk.rate])
    mapped, repacked = (
        open_pair(*paths, repack=choice, products=GGML).run(clip, task, keep_stages=True) for choice in (OFF, ON)
    )
    assert mapped.memory["repacked"] == 0
    assert (repacked.memory["repacked"] > 0) or outtype not in REPACKED
    assert list(mapped.stages) == list(repacked.stages)
    for name in ("tok_xfmr", "tok_pool"):
        assert cosines(repacked.stages[name], mapped.stages[name]).min() > 0.9999, name
    if np.array_equal(repacked.stages["tok_codes"], mapped.stages["tok_codes"]):
        for name in ("prefill_audio_features", "layer_00", "prefill_last_hidden", "prefill_text_logits_step0"):
            assert cosines(repacked.stages[name], mapped.stages[name]).min() > 0.999, name


def test_only_what_is_multiplied_is_repacked(converted: Converter) -> None:
    lm, tokenizer = converted("q4_k", True)
    names = multiplied(model_file(lm))
    assert {"llm.lm_head.weight", "model.layers.0.attn.qkv.weight", "audio.group_proj.weight"} <= set(names)
    assert not any(name.startswith(("llm.embed", "audio.emb", "llm.blk", "llm.codebook_head")) for name in names)
    in_tokenizer = multiplied(model_file(tokenizer))
    assert "enc.blk.0.fc1.weight" in in_tokenizer
    assert not any("conv" in name or "_codebook" in name for name in in_tokenizer)


def test_nothing_is_repacked_of_plain_floats(converted: Converter, jfk: Clip) -> None:
    run = open_pair(*converted("f16"), repack=ON).run(jfk, Task(max_new_tokens=1))
    assert run.memory["repacked"] == 0


def test_repacking_is_chosen_where_the_work_ahead_repays_it(converted: Converter, jfk: Clip) -> None:
    repaid = REPACK_SECONDS / SAVED_SECONDS
    for nbytes in (1, 4_000_000_000):
        assert not worth_repacking(AUTO, repaid * 0.99, nbytes)
        assert worth_repacking(AUTO, repaid * 1.01, nbytes) == (nbytes * 1.25 < available_memory())
    assert not worth_repacking(AUTO, 1e9, available_memory())
    assert worth_repacking(ON, 0, available_memory())
    assert not worth_repacking(OFF, 1e9, 1)
    lm, tokenizer = converted("q4_k")
    pairs = [
        open_pair(lm, tokenizer, repack=AUTO, work=work, products=GGML)
        for work in (Work(0.5), Work(3), Work(60, 4, compared=True))
    ]
    repacked = [pair.run(jfk, Task(max_new_tokens=1)).memory["repacked"] for pair in pairs]
    assert repacked[0] == 0 < repacked[1] < repacked[2]  # none, the audio tokenizer, both


@pytest.mark.parametrize(
    ("choice", "products", "repacked"),
    [("on", "ggml", True), ("off", "ggml", False), ("auto", "ggml", True), ("on", "auto", True)]
    + [("auto", "auto", False), ("on", "own", False)] * bool(variants()),
)
def test_the_command_line_repacks_as_asked(
    tmp_path: Path, converted: Converter, choice: str, products: str, repacked: bool
) -> None:
    """Weights that own kernels multiply are not repacked; where repacking is asked for, ggml multiplies by default."""
    lm, tokenizer = converted("q4_k")
    arguments = [lm, "--tokenizer", tokenizer, "--repack", choice, "--products", products, "--max-new-tokens", 4]
    result = CliRunner().invoke(mimo_check, [*map(str, arguments), "--json", str(tmp_path / "r.json")])
    assert result.exit_code == 0, result.output
    assert ("repack " in result.stdout) == repacked
    assert result.stderr == "", "ggml does not tell of every tensor"


@pytest.mark.parametrize(
    ("n", "n_heads", "n_kv_heads", "masked"), [(5, 4, 2, True), (80, 4, 4, False), (70, 2, 1, True)]
)
def test_attention_is_pytorchs(converted: Converter, n: int, n_heads: int, n_kv_heads: int, masked: bool) -> None:
    """Few positions and many, which ggml computes in different ways."""
    rng = np.random.default_rng(n)
    q, k, v = (rng.standard_normal((n, heads, 32), np.float32) for heads in (n_heads, n_kv_heads, n_kv_heads))
    hidden = np.triu(np.ones((n, n), bool), 1) & masked
    g = empty_graph(converted("f32")[1])
    inputs = {"q": q, "k": k, "v": v, "mask": np.where(hidden, np.float16(-np.inf), np.float16(0))}
    tensors = {name: g.input(name, x.shape, x.dtype) for name, x in inputs.items()}
    g.output("out", g.attend(*tensors.values()))
    expected = layers.attend(
        *(torch.from_numpy(x).transpose(0, 1) for x in (q, k, v)),
        torch.from_numpy(np.where(hidden, -np.inf, 0)).float(),
    )
    np.testing.assert_allclose(g.run(inputs)["out"], expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("eps", [1e-6, 1e-5])
def test_norms_of_small_numbers_depend_on_epsilon_as_pytorchs(converted: Converter, eps: float) -> None:
    g = empty_graph(converted("f32")[0])
    x = np.random.default_rng(0).standard_normal((3, 256), np.float32) * np.float32(1e-3)
    g.output("out", g.rms_norm(g.input("x", x.shape), "llm.final_norm", eps))
    weight = torch.from_numpy(g.weights.file.tensors["llm.final_norm.weight"].read_float32()[0])
    expected = layers.rms_norm(torch.from_numpy(x), weight, eps)
    np.testing.assert_allclose(g.run({"x": x})["out"], expected.numpy(), rtol=1e-4)


@pytest.mark.parametrize("outtype", ["f32", "f16"])
@pytest.mark.parametrize(("height", "width"), [(128, 100), (5, 7), (1, 1)])
def test_convolution_2d_is_pytorchs(qwen3_file: Callable[[str], Path], outtype: str, height: int, width: int) -> None:
    """In float32, also where the kernel is in F16: the input's small numbers are not rounded to it."""
    g = empty_graph(qwen3_file(outtype))
    x = np.random.default_rng(width).standard_normal((2, height, width, 16), np.float32) * np.float32(1e-3)
    g.output("y", g.convolution_2d(g.input("x", x.shape), "audio.conv.2", stride=2, padding=1))
    stored = g.weights.file.tensors
    weights = {
        f"c.{kind}": torch.from_numpy(stored[f"audio.conv.2.{kind}"].read_float32()).reshape(shape)
        for kind, shape in (("weight", (16, 16, 3, 3)), ("bias", (16,)))
    }
    channels_first = torch.from_numpy(x).permute(0, 3, 1, 2)
    expected = torch.conv2d(channels_first, weights["c.weight"], weights["c.bias"], stride=2, padding=1)
    found = g.run({"x": x})["y"].reshape(2, (height + 1) // 2, (width + 1) // 2, 16)
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1).numpy(), atol=1e-6 * expected.abs().max().item())


def test_a_bias_may_be_stored_as_an_images(
    qwen3_asr: Checkpoint, qwen3_file: Callable[[str], Path], tmp_path: Path
) -> None:
    """(n, 1, 1), with the same result."""
    convert([make_request(model_of_checkpoint(qwen3_asr, MMPROJ), [F16])], tmp_path, threads=1)
    [encoder] = tmp_path.glob("mmproj-*.gguf")
    x = np.random.default_rng(0).standard_normal((1, 8, 8, 16), np.float32)
    found = []
    for path, name in ((encoder, "a.conv2d.2"), (qwen3_file("f16"), "audio.conv.2")):
        g = empty_graph(path)
        g.output("y", g.convolution_2d(g.input("x", x.shape), name, stride=2, padding=1))
        found.append(g.run({"x": x})["y"])
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("axes", [(0, 3, 1, 2), (0, 2, 3, 1), (3, 2, 1, 0), (1, 0, 2, 3)])
def test_transpose_is_numpys(converted: Converter, axes: tuple[int, ...]) -> None:
    g = empty_graph(converted("f32")[0])
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5), np.float32)
    g.output("y", g.transpose(g.input("x", x.shape), *axes))
    np.testing.assert_array_equal(g.run({"x": x})["y"], x.transpose(axes))


@pytest.mark.parametrize("n_windows", [1, 3])
def test_attention_within_windows_is_that_of_each(converted: Converter, n_windows: int) -> None:
    g = empty_graph(converted("f32")[0])
    rng = np.random.default_rng(n_windows)
    inputs = {name: rng.standard_normal((7 * n_windows, 2, 32), np.float32) for name in "qkv"}
    q, k, v = (g.input(name, x.shape) for name, x in inputs.items())
    g.output("out", g.attend_windows(q, k, v, n_windows))
    theirs = [torch.from_numpy(x).transpose(0, 1) for x in inputs.values()]
    found = g.run(inputs)["out"]
    np.testing.assert_allclose(found, layers.attend_windows(*theirs, 7).numpy(), atol=1e-5)
    alone = layers.attend(*(x[:, :7] for x in theirs), None)
    np.testing.assert_allclose(found[:7], alone.numpy(), atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    ("kernel_size", "stride", "n"), [(2, 2, 5), (3, 2, 4), (3, 2, 1), (5, 2, 3), (4, 1, 3), (3, 3, 2)]
)
def test_transposed_convolution_is_pytorchs(kernel_size: int, stride: int, n: int, dtype: Any) -> None:
    """In float32, also where the kernel is in F16."""
    rng = np.random.default_rng(kernel_size)
    weights = {"c.weight": rng.standard_normal((6, 8, kernel_size)).astype(dtype), "c.bias": normal(rng, 8)}
    x = normal(rng, n, 6) * np.float32(1e-3)
    found = computed(weights, {"x": x}, lambda g, x: g.transposed_convolution(x, "c", stride=stride))
    kernel = torch.from_numpy(weights["c.weight"]).float()
    expected = torch.conv_transpose1d(torch.from_numpy(x).T, kernel, torch.from_numpy(weights["c.bias"]), stride=stride)
    np.testing.assert_allclose(found, expected.T.numpy(), atol=1e-6)


def test_group_norm_is_pytorchs() -> None:
    rng = np.random.default_rng(0)
    weights, x = {"n.weight": normal(rng, 16), "n.bias": normal(rng, 16)}, normal(rng, 9, 16) + np.float32(3)
    found = computed(weights, {"x": x}, lambda g, x: g.group_norm(x, "n"))
    expected = torch.nn.functional.group_norm(torch.from_numpy(x).T[None], 1, *map(torch.from_numpy, weights.values()))
    np.testing.assert_allclose(found, expected[0].T.numpy(), atol=1e-5)


@pytest.mark.parametrize("n", [1, 64, 65, 300])
@pytest.mark.parametrize(("before", "after"), [(40, 10), (3, 0), (0, 0), (-1, 0), (-1, -1), (5, -1), (400, 400)])
def test_attention_to_near_positions_is_that_with_a_mask(n: int, before: int, after: int) -> None:
    rng = np.random.default_rng(n)
    inputs = {name: normal(rng, n, 2, 16) for name in "qkv"}
    found = computed({}, inputs, lambda g, *qkv: g.attend_near(*qkv, before, after))
    theirs = [torch.from_numpy(x).transpose(0, 1) for x in inputs.values()]
    distance = torch.arange(n)[None] - torch.arange(n)[:, None]  # of the key from the query
    hidden = (distance < -(before if before >= 0 else n)) | (distance > (after if after >= 0 else n))
    expected = layers.attend(*theirs, torch.zeros(n, n).masked_fill(hidden, -torch.inf))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(layers.attend_near(*theirs, before, after).numpy(), expected.numpy(), atol=1e-5)


def normal(rng: np.random.Generator, *shape: int) -> Any:
    return rng.standard_normal(shape, np.float32)


def computed(weights: dict[str, Any], inputs: dict[str, Any], layer: Callable[..., Any]) -> Any:
    """What a layer makes of inputs, with these weights."""
    tensors: Any = {}
    g = Graph(Backend(2), tensors)
    tensors |= {name: g.input(name, x.shape, x.dtype) for name, x in weights.items()}
    g.output("y", ggml.ggml_cont(g.ctx, layer(g, *(g.input(name, x.shape) for name, x in inputs.items()))))
    return np.atleast_2d(g.run(weights | inputs)["y"])


def empty_graph(path: Path) -> Graph:
    from mimo_convert.formats.gguf import read_gguf

    return Graph(Backend(2), Weights(read_gguf(path)))


def test_ggml_says_warnings_and_errors_alone(capfd: pytest.CaptureFixture[str]) -> None:
    for level, text in levels():
        memory._log(level, text, None)
    assert capfd.readouterr().err == "a warning\nan error\n"


def levels() -> Iterator[tuple[int, Any]]:
    yield ggml.GGML_LOG_LEVEL_DEBUG, b"repack tensor\n"
    yield ggml.GGML_LOG_LEVEL_INFO, b"news\n"
    yield ggml.GGML_LOG_LEVEL_WARN, b"a warning\n"
    yield ggml.GGML_LOG_LEVEL_ERROR, b"an error\n"


def test_tiny_is_transcribed_word_for_word_from_repacked_weights(tmp_path: Path, jfk: Clip) -> None:
    from mimo_commands.convert import main as mimo_convert

    CliRunner().invoke(mimo_convert, ["tiny", "--outtype", "q4_k", "--no-check", "--out", str(tmp_path)])
    arguments = [str(tmp_path / "mimo-asr-q4_k.gguf"), "--reference", "tiny", "--repack", "on"]
    result = CliRunner().invoke(mimo_check, arguments)
    assert result.exit_code == 0, result.output
    assert f"transcript  {JFK_TEXT}\n" in result.stdout
