"""The GGUF lint: silent about every file that is as it should be, and a line for each thing that is not."""

import dataclasses
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mimo_convert.formats.gguf import read_gguf
from mimo_convert.model.checkpoint import open_checkpoint
from mimo_convert.plan.request import Request
from quantize.errors import InputError
from quantize.recipes import parse_rule
from quantize.types import TYPES
from tests.damage import cut, edit_tensor, set_weight
from tests.gguf_edit import Key, patch, rewrite
from tests.mimo_convert.plan.test_plan import OUTTYPES, RULES
from tests.opened import lint, make_request, model_of_checkpoint, model_of_file, options_of

from .linted import EMBED, LM_RULES, NORM, TOKENIZER_RULES, UP, checked, only, problems, run
from .test_tensors import retensored


@pytest.mark.parametrize("outtype", TYPES)
@pytest.mark.parametrize("fused", [False, True], ids=["separate", "fused"])
def test_the_tiny_pair_passes_in_every_type(tiny: Callable[[bool], Path], fused: bool, outtype: str) -> None:
    floats = outtype in ("f32", "f16", "bf16")
    for name, rules in ((f"mimo-asr-{outtype}", LM_RULES), (f"mimo-tokenizer-{outtype}", TOKENIZER_RULES)):
        path = tiny(fused) / f"{name}.gguf"
        result = checked(path)
        assert {gate.text for gate in result.gates} == {"no findings"}
        assert {gate.role for gate in result.gates} == {"speech_lm" if "asr" in name else "audio_tokenizer"}
        assert (result.passed, result.file, result.bytes) == (True, str(path), path.stat().st_size)
        assert [rule.name for rule in result.rules] == [*rules, *([] if floats else ["scales"])]
        assert all(rule.checked for rule in result.rules)
        assert {rule.name: rule.checked for rule in result.rules}["numbers"] == weights_of(path)


def weights_of(path: Path) -> int:
    return sum(tensor.n_elements for tensor in gguf.GGUFReader(path).tensors)


@given(OUTTYPES, st.booleans(), st.booleans(), RULES, st.none() | OUTTYPES, st.booleans(), RULES)
def test_whatever_mimo_convert_and_mimo_quantize_write_passes(
    small_lm: Path, tmp_path_factory: pytest.TempPathFactory, outtype: str, fuse: bool, asr_only: bool,
    rules: list[str], again: str | None, fuse_again: bool, more_rules: list[str],
) -> None:  # fmt: skip
    out = tmp_path_factory.mktemp("lm")
    first = options_of(fuse, asr_only, tuple(parse_rule(rule, "x") for rule in rules))
    second = options_of(
        fuse_again, asr_only, tuple(parse_rule(rule, "x") for rule in more_rules), allow_requantize=True
    )
    model = model_of_checkpoint(open_checkpoint(str(small_lm)))
    try:
        made = run(Request(model, [TYPES[outtype]], first), out)
        assert problems(made) == {}
        request = Request(model_of_file(made), [TYPES[again] if again else None], second, "again.gguf")
        assume(can_be_planned(request))
        assert problems(run(request, out)) == {}
    finally:
        shutil.rmtree(out)


def can_be_planned(request: Request) -> bool:
    """Not if Q, K and V of different types are to be fused as they are."""
    with suppress(InputError):
        return bool(request.plans)
    return False


@pytest.mark.parametrize("fused", [False, True], ids=["separate", "fused"])
@pytest.mark.parametrize("outtype", ["f16", "q4_k"])
def test_what_is_kept_in_f32_for_a_weight_passes_in_whatever_layout(
    small_lm: Path, tmp_path: Path, outtype: str, fused: bool
) -> None:
    """Fused, K and V are F32 for a weight of Q; split, they are because a rule of their own says so."""
    checkpoint, name = shutil.copytree(small_lm, tmp_path / "lm"), "model.layers.1.self_attn.q_proj.weight"
    edit_tensor(checkpoint, name, lambda tensor: tensor.float())
    set_weight(checkpoint, name, 3, 2.0**20)
    made = run(make_request(open_checkpoint(str(checkpoint)), [TYPES[outtype]], options_of(fused)), tmp_path)
    assert problems(made) == {}
    assert problems(run(Request(model_of_file(made), [None], options_of(fused), "same.gguf"), tmp_path)) == {}
    assert (tmp_path / "same.gguf").read_bytes() == made.read_bytes()
    if fused:
        split = run(Request(model_of_file(made), [None], options_of(False), "split.gguf"), tmp_path)
        assert problems(split) == {}
        types = {tensor.ggml_type.name for name, tensor in read_gguf(split).tensors.items() if "1.attn.k.w" in name}
        assert types == {"f32"}


def test_a_file_of_an_older_tool_without_the_keys_that_are_ours_passes(lm: Path, tmp_path: Path) -> None:
    ours = ("llm.head_dim", "delay_pattern", "audio.rope_theta", "token_type", "_token_id", ".pre", "_version")

    def older(key: Key) -> Key | None:
        return None if key.name.endswith(ours) else key

    assert problems(rewrite(lm, tmp_path / "x.gguf", keys=older)) == {}


def test_a_file_that_was_only_written_anew_passes(lm: Path, tmp_path: Path) -> None:
    """So that what the tests below find is their doing."""
    assert problems(rewrite(lm, tmp_path / "x.gguf")) == {}
    assert problems(retensored(lm, tmp_path / "y.gguf", lambda *tensor: [tensor])) == {}


def test_a_file_that_cannot_be_opened_is_an_error_and_no_result(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        checked(tmp_path / "absent.gguf")
    with pytest.raises(InputError, match="is a folder"):
        checked(tmp_path)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: cut(path, -1000), "truncated in tensor "),
        (lambda path: cut(path, 2000), "truncated: 2000 bytes, its header reaches beyond"),
        (lambda path: cut(path, 0), "not a GGUF file; expected a file that begins with the bytes GGUF"),
        (lambda path: path.write_bytes(b"GGUF" + bytes(40)), "GGUF version 0; expected 3"),
    ],
)
def test_a_broken_structure_is_a_result(lm: Path, tmp_path: Path, damage: Callable[[Path], object], says: str) -> None:
    path = Path(shutil.copy(lm, tmp_path))
    damage(path)
    assert only(path, "structure").startswith(says)
    assert checked(path).bytes == path.stat().st_size


def test_what_follows_the_last_tensor_is_found_and_the_rest_examined(lm: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(lm, tmp_path))
    with path.open("ab") as file:
        file.write(b"x" * 33)
    assert only(path, "structure").startswith("33 bytes follow the last tensor; expected ")
    assert len(checked(path).rules) == len(LM_RULES) + 1


def test_of_an_unknown_family_the_weights_are_still_examined(lm: Path, tmp_path: Path) -> None:
    path = rewrite(lm, tmp_path / "x.gguf", architecture="llama")
    patch(path, "llm.final_norm.weight", 0, np.array([np.nan], np.float32))
    found = problems(path)
    assert found["architecture"] == (
        "key general.architecture is 'llama'; expected mimo_asr or mimo_tokenizer or qwen3asr or qwen3vl or clip",
    )
    assert found["numbers"] == ("tensor llm.final_norm.weight holds NaN in row 0; expected numbers",)
    assert [rule.name for rule in checked(path).rules] == [
        "structure", "architecture", "numbers", "constant tensors", "scales"
    ]  # fmt: skip


# All of it.


def test_every_problem_is_found_and_beyond_ten_of_a_kind_counted(lm: Path, tmp_path: Path) -> None:
    lost = [f"model.layers.{i}.ffn.{name}.weight" for i in range(2) for name in ("gate", "up", "down")]
    lost += [f"audio.emb.{c}.weight" for c in range(8)]

    def keys(key: Key) -> Key | None:
        return key._replace(value=5) if key.name == "mimo_asr.audio.group_size" else key

    path = rewrite(lm, tmp_path / "x.gguf", tensors=lambda name: name not in lost, keys=keys)
    patch(path, NORM, 0, np.array([np.nan], np.float32))
    found = problems(path)
    assert {name: len(lines) for name, lines in found.items()} == {"tensors": 11, "shapes": 1, "numbers": 1}
    assert found["tensors"][10] == "… and 4 more"


def test_the_result_does_not_depend_on_threads(lm: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(lm, tmp_path))
    for tensor in (UP, EMBED):
        patch(path, tensor, 34 * 8 * 5, np.array([np.nan], np.float16))
        patch(path, tensor, 34 * 8 * 9, np.array([60000], np.float16))
    results = [dataclasses.replace(lint(path, threads), seconds=0.0) for threads in (1, 2, 7)]
    assert sum(len(rule.findings) for rule in results[0].rules) == 4
    assert results[0] == results[1] == results[2]


def test_a_name_that_a_terminal_would_obey_is_shown_and_not_printed(lm: Path, tmp_path: Path) -> None:
    path = rewrite(lm, tmp_path / "x.gguf", extra="\x1b[31m\nred")
    assert problems(path)["tensors"][0].startswith(r"extra tensor \x1b[31m\nred; expected none")


def test_no_damage_of_the_header_is_more_than_a_result(lm: Path, tmp_path: Path) -> None:
    file = read_gguf(lm)
    header = min(tensor.begin for tensor in file.tensors.values())
    whole = lm.read_bytes()
    path = tmp_path / "x.gguf"
    choose = random.Random(1)
    for _ in range(150):
        place = choose.randrange(4, header)
        path.write_bytes(whole[:place] + bytes([choose.randrange(256)]) + whole[place + 1 :])
        for line in (line for rule in checked(path).rules for line in rule.findings):
            assert line.isprintable()
            assert len(line) < 600
