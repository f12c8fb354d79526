"""Graphs and whole runs with own products, beside the same with ggml's."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mimo_commands.check import main as mimo_check
from mimo_commands.convert import main as mimo_convert
from mimo_convert.formats.gguf import read_gguf
from mimo_families.mimo_tokenizer.stages import CODES
from runtime_check.audio.clips import Clip
from runtime_check.audio.jfk import JFK_TEXT
from runtime_check.choices import AUTO, GGML, OWN
from runtime_check.ggml.graph import Backend, Graph, TensorPtr, Weights
from runtime_check.products.comparison import difference
from runtime_check.products.library import variants
from runtime_check.run.activations import GREEDY
from runtime_check.run.compare.measures import cosines
from runtime_check.run.system import Task
from tests.opened import open_pair
from tests.runtime_check.conftest import Converter

pytestmark = pytest.mark.skipif(not variants(), reason="no kernels for this processor")

QKV = "model.layers.0.attn"


OUTTYPES = ["q4_k", "q6_k", "q8_0", "iq4_nl"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the bundled model, which knows its sentence, in several types."""
    folder = tmp_path_factory.mktemp("tiny")
    types = [argument for outtype in OUTTYPES for argument in ("--outtype", outtype)]
    result = CliRunner().invoke(mimo_convert, ["tiny", *types, "--no-check", "--out", str(folder)])
    assert result.exit_code == 0, result.output
    return folder


@pytest.mark.parametrize("outtype", OUTTYPES)
def test_a_run_with_own_products_has_the_same_transcript(tiny: Path, jfk: Clip, outtype: str) -> None:
    paths, task = (tiny / f"mimo-asr-{outtype}.gguf", tiny / "mimo-tokenizer-q8_0.gguf"), Task(language="english")
    theirs, ours = (open_pair(*paths, products=code).run(jfk, task, keep_stages=True) for code in (GGML, OWN))
    assert ours.products[variants()[0]]
    assert list(theirs.products) == [GGML]
    assert ours.transcript == theirs.transcript == JFK_TEXT
    assert list(ours.stages) == list(theirs.stages)
    assert np.array_equal(ours.stages[GREEDY], theirs.stages[GREEDY])
    assert (
        np.mean(ours.stages[CODES] == theirs.stages[CODES]) > 0.995
    )  # roundings of activations flip (docs/products.md)
    for name, x in theirs.stages.items():
        if not np.issubdtype(x.dtype, np.integer):
            rows = (each.reshape(-1, each.shape[-1]) for each in (ours.stages[name], x))
            assert cosines(*rows).min() > 0.99, name


def test_activations_are_quantized_once_for_products_that_share_them(converted: Converter) -> None:
    weights = Weights(read_gguf(converted("q4_k")[0]))
    g = Graph(Backend(2, OWN), weights)
    x = g.input("x", (5, 256))
    for name, y in zip("qkv", g.qkv(x, QKV, 4, 2, 64), strict=True):
        g.output(name, g.add(y, y))
    assert len(g.products) == 3
    assert len(g.quantized) == 1


@pytest.mark.parametrize("n", [1, 6])
def test_views_and_batches_are_multiplied_as_by_ggml(converted: Converter, n: int) -> None:
    """Rows that lie apart, and activations of three dimensions."""
    weights = Weights(read_gguf(converted("q4_k")[0]))
    x = np.random.default_rng(n).standard_normal((2 * n, 512), np.float32)
    found = {}
    for code in (GGML, OWN):
        g = Graph(Backend(2, code), weights)
        whole = g.input("x", x.shape)
        g.output("apart", g.linear(last_columns(g, whole, 256), f"{QKV}.q"))
        g.output("batch", g.linear(g.reshape(whole, (2, 2 * n, 256)), f"{QKV}.q"))
        found[code] = g.run({"x": x})
        assert np.array_equal(g.run({"x": x})["batch"], found[code]["batch"]), "a graph runs any number of times"
    for name, theirs in found[GGML].items():
        assert found[OWN][name].shape == theirs.shape
        assert difference(found[OWN][name], theirs) < 1e-6


def last_columns(g: Graph, x: TensorPtr, n: int) -> TensorPtr:
    import ggml

    t = x.contents
    return ggml.ggml_view_2d(g.ctx, x, n, t.ne[1], t.nb[1], (t.ne[0] - n) * t.nb[0])


@pytest.mark.parametrize("code", [AUTO, OWN, GGML])
def test_the_report_says_what_multiplied(tmp_path: Path, tiny: Path, code: str) -> None:
    """Gates hold, and every word is right, with either."""
    reports = ["--json", tmp_path / "r.json", "--html", tmp_path / "r.html"]
    arguments = [tiny / "mimo-asr-q4_k.gguf", "--reference", "tiny", "--products", code, *reports]
    result = CliRunner().invoke(mimo_check, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    assert f"transcript  {JFK_TEXT}\n" in result.stdout
    (check,) = json.loads((tmp_path / "r.json").read_text())["checks"]
    by = GGML if code == GGML else variants()[0]
    assert {"q4_k", "q8_0"} <= set(check["products"][by])
    assert f" q8_0 by {by}" in result.stdout
    assert f" q8_0 by {by}" in (tmp_path / "r.html").read_text()
