"""LoRA adapters: pairs, scales and blocks against float64 sums by numpy, and what does not fit, in one line."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from mimo_convert.model.adapter import AdapterFacts, open_adapter
from mimo_convert.model.checkpoint import Checkpoint, open_checkpoint
from quantize.errors import InputError
from tests.qwen3_checkpoint import Block, write_adapter

BASE, SPELT = "thinker.model.layers.0.q", "thinker.layers.0.q"  # two spellings of one module
TARGET = f"{BASE}.weight"
ROWS, COLUMNS = 24, 40


def weight_of(module: str) -> str:
    return module.replace("thinker.layers.", "thinker.model.layers.") + ".weight"


FACTS = AdapterFacts(weight_of, blocks="mega_lora_blocks.json")


def base(folder: Path, dtype: type = np.float32, **more: Any) -> Checkpoint:
    """A checkpoint of one matrix, and `more`."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {TARGET: np.random.default_rng(1).standard_normal((ROWS, COLUMNS)).astype(dtype)}
    save_file(weights | more, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    return open_checkpoint(folder)


def adapter(folder: Path, modules: tuple[str, ...] = (BASE, SPELT), **options: Any) -> Path:
    return write_adapter(folder, modules=dict.fromkeys(modules, (ROWS, COLUMNS)), **options)


def pairs(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A and B of each module in float64, by the safetensors library."""
    found = load_file(folder / "adapter_model.safetensors")
    names = {name.removeprefix("base_model.model.").rpartition(".lora_")[0] for name in found}
    return {
        name: tuple(found[f"base_model.model.{name}.lora_{half}.weight"].astype(np.float64) for half in "AB")  # type: ignore[misc]
        for name in names
    }


def merged(checkpoint: Checkpoint, folder: Path) -> np.ndarray:
    """The one matrix with the adapter's products added, as the writer and PyTorch read it."""
    tensor = checkpoint.with_adapter(open_adapter(folder, FACTS), {}).tensors[TARGET]
    whole = tensor.read_float32()
    parts = [tensor.weights(i, tensor.read(i, 7))[0].view(np.float32).copy() for i in range(0, ROWS - 6, 7)]
    assert np.array_equal(np.concatenate(parts), whole[:21]), "a run of rows is that of the whole"
    return whole


def check_sum(found: np.ndarray, checkpoint: Checkpoint, delta: np.ndarray) -> None:
    plain = checkpoint.tensors[TARGET].read_float32().astype(np.float64)
    np.testing.assert_allclose(found, plain + delta, rtol=0, atol=2e-6 * max(1.0, float(np.abs(delta).max())))
    assert np.abs(delta).max() > 1e-3, "nothing was added"


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("pair_dtype", ["F32", "F16"])
def test_both_spellings_of_a_module_are_added(tmp_path: Path, dtype: type, pair_dtype: str) -> None:
    checkpoint, folder = base(tmp_path / "base", dtype), adapter(tmp_path / "lora", dtype=pair_dtype)
    (a, b), (c, d) = (pairs(folder)[name] for name in (BASE, SPELT))
    check_sum(merged(checkpoint, folder), checkpoint, 8 / 4 * (b @ a + d @ c))


def test_rank_and_alpha_of_a_module_are_its_patterns(tmp_path: Path) -> None:
    checkpoint = base(tmp_path / "base")
    folder = adapter(tmp_path / "lora", ranks={BASE: 9}, alphas={SPELT: 3.0})
    (a, b), (c, d) = (pairs(folder)[name] for name in (BASE, SPELT))
    check_sum(merged(checkpoint, folder), checkpoint, 8 / 9 * b @ a + 3 / 4 * d @ c)


def test_a_pattern_may_be_the_end_of_a_modules_name(tmp_path: Path) -> None:
    checkpoint, folder = base(tmp_path / "base"), adapter(tmp_path / "lora", (BASE,))
    edit(folder / "adapter_config.json", lambda config: config | {"alpha_pattern": {"0.q": 2}})
    a, b = pairs(folder)[BASE]
    check_sum(merged(checkpoint, folder), checkpoint, 2 / 4 * b @ a)


blocks_of_rank = st.integers(1, 12).flatmap(
    lambda rank: st.tuples(
        st.just(rank),
        st.lists(
            st.builds(
                Block,
                start=st.integers(0, rank - 1),
                end=st.integers(1, rank),
                rank=st.none() | st.integers(1, 64),
                alpha=st.none() | st.floats(0.125, 64),
            ).filter(lambda block: block.start < block.end),
            min_size=1,
            max_size=4,
        ),
    )
)


@given(blocks_of_rank, st.sampled_from([BASE, SPELT]))
def test_blocks_replace_the_patterns_of_a_module(
    tmp_path_factory: pytest.TempPathFactory, listed: tuple[int, list[Block]], module: str
) -> None:
    tmp_path, (rank, blocks) = tmp_path_factory.mktemp("blocks"), listed
    checkpoint = base(tmp_path / "base")
    folder = adapter(tmp_path / "lora", (module,), rank=rank, alphas={module: 5.0}, blocks={module: blocks})
    a, b = pairs(folder)[module]
    delta = np.zeros((ROWS, COLUMNS))
    for start, end, of_rank, alpha in blocks:
        divisor = of_rank or end - start
        delta += b[:, start:end] @ a[start:end] * ((divisor if alpha is None else alpha) / divisor)
    check_sum(merged(checkpoint, folder), checkpoint, delta)


def test_blocks_are_found_by_the_checkpoints_name_too(tmp_path: Path) -> None:
    checkpoint = base(tmp_path / "base")
    folder = adapter(tmp_path / "lora", (SPELT,), blocks={BASE: [Block(1, 3, alpha=6.0)]})
    a, b = pairs(folder)[SPELT]
    check_sum(merged(checkpoint, folder), checkpoint, 3 * b[:, 1:3] @ a[1:3])


# ── what does not fit ────────────────────────────────────────────────────────────────────────────────────────────


def edit(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def edit_pairs(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path = folder / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)


A, B = (f"base_model.model.{BASE}.lora_{half}.weight" for half in "AB")
CONFIG, WEIGHTS, BLOCKS = "adapter_config.json", "adapter_model.safetensors", "mega_lora_blocks.json"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"fan_in_fan_out": True}, "fan_in_fan_out is True; expected False"),
        ({"use_dora": True}, "use_dora is True; expected False"),
        ({"use_rslora": True}, "use_rslora is True; expected False"),
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA'; expected 'LORA'"),
        ({"bias": "all"}, "bias is 'all'; expected 'none'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is ['lm_head']"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'; expected True"),
        ({"r": "24"}, "r is '24'; expected a whole number"),
        ({"lora_alpha": None}, "lora_alpha is None; expected a number"),
        ({"lora_alpha": math.inf}, "lora_alpha is inf; expected a number"),
        ({"rank_pattern": [4]}, "rank_pattern is [4]; expected named fields"),
        ({"rank_pattern": {BASE: 0}}, f"rank_pattern of {BASE} is 0; expected a positive number"),
        ({"alpha_pattern": {"layers.9.q": 4}}, "alpha_pattern names layers.9.q; expected a module of"),
    ],
)
def test_a_config_of_another_kind_of_adapter_is_named(tmp_path: Path, values: dict[str, Any], says: str) -> None:
    folder = adapter(tmp_path / "lora")
    edit(folder / CONFIG, lambda config: config | values)
    with pytest.raises(InputError) as caught:
        open_adapter(folder, FACTS)
    assert str(caught.value).startswith(f"{folder / CONFIG}: {says}")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda found: {k: v for k, v in found.items() if k != B},
         f"module {BASE} has lora_A and no lora_B; expected both"),
        (lambda found: {k: v for k, v in found.items() if k != A},
         f"module {BASE} has lora_B and no lora_A; expected both"),
        (lambda found: found | {A: found[A][:3]},
         f"module {BASE} has lora_A of rank 3 and lora_B of rank 4; expected one"),
        (lambda found: found | {A: found[A][:3], B: np.ascontiguousarray(found[B][:, :3])},
         f"module {BASE} has rank 3; expected 4, by {CONFIG}"),
        (lambda found: found | {A: found[A].astype(np.int32)}, f"tensor {A} is I32 4×40; expected a matrix of F32"),
        (lambda found: found | {A: found[A][0]}, f"tensor {A} is f32 40; expected a matrix"),
        (lambda found: found | {"base_model.model.lm_head.weight": found[A]},
         "tensor base_model.model.lm_head.weight is not half of a pair; expected base_model.model.MODULE.lora_A"),
        (lambda found: {}, "holds no pair; expected base_model.model.MODULE.lora_A.weight"),
    ],
)  # fmt: skip
def test_a_pair_that_is_none_is_named(tmp_path: Path, change: Any, says: str) -> None:
    folder = adapter(tmp_path / "lora")
    edit_pairs(folder, change)
    with pytest.raises(InputError) as caught:
        open_adapter(folder, FACTS)
    assert str(caught.value).startswith(f"{folder / WEIGHTS}: {says}")


@pytest.mark.parametrize(
    ("blocks", "says"),
    [
        (
            {BASE: [{"start": 0, "end": 5}]},
            f": module {BASE} has a block 0 … 5; expected an end of at most 4, the rank",
        ),
        ({BASE: [{"start": 2, "end": 2}]}, f": module {BASE}: a block 2 … 2; expected a start before its end"),
        ({BASE: [{"start": 0}]}, f": module {BASE}: has no end; expected a whole number"),
        ({BASE: [{"start": 0, "end": 1, "rank": 0}]}, f": module {BASE}: rank is 0; expected a positive number"),
        ({BASE: [{"start": 0, "end": 1, "alpha": "x"}]}, f": module {BASE}: alpha is 'x'; expected a number"),
        ({BASE: []}, f": module {BASE} has []; expected a list of blocks"),
        ({BASE: [3]}, f": module {BASE}: a block is 3; expected named fields"),
        ({"other": [{"start": 0, "end": 1}]}, f": module other has no pair; expected a module of {WEIGHTS}"),
    ],
)
def test_a_block_that_is_none_is_named(tmp_path: Path, blocks: dict[str, Any], says: str) -> None:
    folder = adapter(tmp_path / "lora", (BASE,))
    (folder / BLOCKS).write_text(json.dumps(blocks))
    with pytest.raises(InputError) as caught:
        open_adapter(folder, FACTS)
    assert str(caught.value).startswith(f"{folder / BLOCKS}{says}")


def test_a_folder_without_an_adapter_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"holds no {CONFIG}; expected a LoRA adapter: {CONFIG} and {WEIGHTS}"):
        open_adapter(tmp_path, FACTS)
    (tmp_path / CONFIG).write_text('{"r": 4, "lora_alpha": 4}')
    with pytest.raises(InputError, match=f"{WEIGHTS}: "):
        open_adapter(tmp_path, FACTS)


@pytest.mark.parametrize(
    ("module", "shape", "says"),
    [
        (
            "layers.7.q",
            (ROWS, COLUMNS),
            "module layers.7.q names no tensor of {base}; expected layers.7.q.weight",
        ),
        ("norm", (ROWS, COLUMNS), "module norm has the shape 24×40 of B · A; expected 24, that of norm.weight"),
        (BASE, (ROWS, 8), f"module {BASE} has the shape 24×8 of B · A; expected 24×40, that of {BASE}.weight"),
        ("head", (ROWS, COLUMNS), "module head names head.weight, which is tied"),
    ],
)
def test_a_module_that_does_not_fit_the_checkpoint_is_named(
    tmp_path: Path, module: str, shape: tuple[int, int], says: str
) -> None:
    more = {"norm.weight": np.ones(ROWS, np.float32), "head.weight": np.ones((ROWS, COLUMNS), np.float32)}
    checkpoint = base(tmp_path / "base", **more)
    folder = write_adapter(tmp_path / "lora", modules={module: shape})
    with pytest.raises(InputError) as caught:
        checkpoint.with_adapter(open_adapter(folder, FACTS), {r"head\.weight": "tied"})
    assert str(caught.value).startswith(f"{folder / WEIGHTS}: {says.format(base=tmp_path / 'base')}")
