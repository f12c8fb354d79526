"""Files that an earlier run made: recognized, or in the way because they are others."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mimo_convert.model.checkpoint import open_checkpoint
from mimo_convert.model.provenance import NOT_READ
from mimo_convert.plan.request import Request
from mimo_convert.write import convert as module
from mimo_convert.write.convert import convert, what_is_to_do
from mimo_convert.write.made import MADE
from quantize.errors import InputError
from quantize.recipes import parse_rule
from quantize.types import TYPES
from tests.damage import edit_tensor, set_weight
from tests.opened import make_request, model_of_file, options_of

FORCE = "; --force replaces it$"
F16, Q8_0 = "mimo-tokenizer-f16.gguf", "mimo-tokenizer-q8_0.gguf"
WEIGHT = "encoder.layers.1.fc1.weight"


def request_of(folder: Path, *types: str, rules: tuple[str, ...] = ()) -> Request:
    options = options_of(rules=tuple(parse_rule(rule, "--tensor-type") for rule in rules))
    return make_request(open_checkpoint(str(folder)), [TYPES[name] for name in types], options)


@pytest.fixture
def tokenizer(small_tokenizer: Path, tmp_path: Path) -> Path:
    """A checkpoint of one's own, to change."""
    return shutil.copytree(small_tokenizer, tmp_path / "small-tokenizer")


@pytest.fixture
def made(tokenizer: Path, tmp_path: Path) -> Path:
    """The folder with two of its types."""
    convert([request_of(tokenizer, "f16", "q8_0")], tmp_path / "out", threads=2)
    return tmp_path / "out"


def states(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


def again(folder: Path, out: Path, *types: str, rules: tuple[str, ...] = ()) -> list[str]:
    """Convert once more; what is said, and what the files are called that were said to be there."""
    told: list[str] = []
    convert([request_of(folder, *types, rules=rules)], out, threads=2, tell=told.append)
    return told


def test_what_the_same_command_made_is_not_written_again(tokenizer: Path, made: Path) -> None:
    before, accepted = states(made), []
    request, told = request_of(tokenizer, "f16", "q8_0"), list[str]()
    plans = convert([request], made, threads=2, tell=told.append, accept=accepted.append)
    assert states(made) == before
    assert accepted == [made / F16, made / Q8_0]
    assert told == [f"{path}: {MADE}" for path in accepted]
    assert [plan.file_name for plan in plans] == [F16, Q8_0]


def test_what_is_missing_is_written_beside_what_is_there(tokenizer: Path, made: Path, tmp_path: Path) -> None:
    before, data = states(made), (made / Q8_0).read_bytes()
    (made / Q8_0).unlink()
    assert again(tokenizer, made, "q8_0", "f16", "q4_k") == [f"{made / F16}: {MADE}"]
    assert states(made)[F16] == before[F16]
    assert (made / Q8_0).read_bytes() == data, "with the hashes of its shards, too"
    assert NOT_READ.encode() not in data
    assert sorted(states(made)) == [F16, "mimo-tokenizer-q4_k.gguf", Q8_0]


def test_force_writes_it_again(tokenizer: Path, made: Path) -> None:
    before = states(made)
    convert([request_of(tokenizer, "f16", "q8_0")], made, threads=2, force=True)
    assert all(states(made)[name] != before[name] for name in before)


def with_other_weights(tokenizer: Path, made: Path) -> None:
    set_weight(tokenizer, WEIGHT, 0, 0.5)


def longer(tokenizer: Path, made: Path) -> None:
    with (made / Q8_0).open("ab") as file:
        file.write(bytes(32))


def cut(tokenizer: Path, made: Path) -> None:
    os.truncate(made / Q8_0, 100_000)


def by_another_version(tokenizer: Path, made: Path) -> None:
    data = (made / Q8_0).read_bytes()
    begin = data.index(b"mimo_convert.version") + 20 + 4 + 8
    (made / Q8_0).write_bytes(data[:begin] + b"0.0.1" + data[begin + 5 :])


def of_another_name(tokenizer: Path, made: Path) -> None:
    data = (made / Q8_0).read_bytes()
    (made / Q8_0).write_bytes(data.replace(b"small-tokenizer", b"SMALL-TOKENIZER"))


def of_another_type(tokenizer: Path, made: Path) -> None:
    shutil.copy(made / F16, made / Q8_0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (with_other_weights, "made of a model.safetensors with the sha256 [0-9a-f]{64}; expected [0-9a-f]{64}"),
        (longer, r"with [\d,]+ bytes; expected [\d,]+"),
        (cut, "and was not made by this command: truncated in tensor .*"),
        (by_another_version, r"with the mimo-convert version 0\.0\.1; expected \d+\.\d+\.\d+"),
        (of_another_name, "with the name SMALL-TOKENIZER; expected small-tokenizer"),
        (of_another_type, "with the type f16; expected q8_0"),
    ],
)
def test_a_file_that_is_another_is_named_with_the_difference_and_kept(
    tokenizer: Path, made: Path, change: Callable[[Path, Path], None], says: str
) -> None:
    change(tokenizer, made)
    before = states(made)
    with pytest.raises(InputError, match=f"^{made / Q8_0}: already exists, {says}{FORCE}"):
        again(tokenizer, made, "q8_0")
    assert states(made) == before


def test_other_rules_are_another_file(tokenizer: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert again(tokenizer, out, "q8_0", rules=("fc1=f16",)) == []
    says = "already exists, with the rules fc1=f16; expected fc2=f16"
    with pytest.raises(InputError, match=f"mimo-tokenizer-q8_0-mix.gguf: {says}{FORCE}"):
        again(tokenizer, out, "q8_0", rules=("fc2=f16",))


def test_promoted_tensors_are_known_from_the_file(tokenizer: Path, tmp_path: Path) -> None:
    edit_tensor(tokenizer, WEIGHT, lambda tensor: tensor.float())
    set_weight(tokenizer, WEIGHT, 3, 1e6)
    out = tmp_path / "out"
    again(tokenizer, out, "f16", "bf16")
    before = states(out)
    assert again(tokenizer, out, "f16", "bf16") == [
        f"{out / F16}: {MADE}", f"{out / 'mimo-tokenizer-bf16.gguf'}: {MADE}"
    ]  # fmt: skip
    assert states(out) == before
    again(tokenizer, out, "f16", "q8_0")
    again(tokenizer, tmp_path / "alone", "q8_0")
    assert (out / Q8_0).read_bytes() == (tmp_path / "alone" / Q8_0).read_bytes()


def test_a_weight_that_overflows_leaves_files_of_other_types_alone(tokenizer: Path, tmp_path: Path) -> None:
    edit_tensor(tokenizer, WEIGHT, lambda tensor: tensor.float())
    set_weight(tokenizer, WEIGHT, 3, 1e6)
    out = tmp_path / "out"
    again(tokenizer, out, "bf16")
    before = states(out)["mimo-tokenizer-bf16.gguf"]
    told = again(tokenizer, out, "bf16", "f16")
    assert "starting over" in told[-1]
    assert states(out)["mimo-tokenizer-bf16.gguf"] == before
    assert sorted(states(out)) == ["mimo-tokenizer-bf16.gguf", F16]


def test_a_name_that_was_taken_by_the_same_command_is_no_error_the_next_time(
    tokenizer: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run of it ended first: this one's work is left, and cleared away."""
    out, write_chunk = tmp_path / "late", module.write_chunk

    def slow(*arguments: object) -> int:
        shutil.copy(made / F16, out)
        return write_chunk(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_chunk", slow)
        with pytest.raises(InputError, match=f"already exists{FORCE[:-1]}"):
            convert([request_of(tokenizer, "f16")], out, threads=2)
    assert len(states(out)) == 3
    assert again(tokenizer, out, "f16") == [f"{out / F16}: {MADE}"]
    assert sorted(states(out)) == [F16]


def test_a_dry_run_tells_what_is_there(tokenizer: Path, made: Path) -> None:
    of_another_type(tokenizer, made)
    before = states(made)
    left = what_is_to_do([request_of(tokenizer, "f16", "q8_0", "q4_k")], made)
    assert left.there == {
        F16: MADE,
        Q8_0: f"{made / Q8_0}: already exists, with the type f16; expected q8_0; --force replaces it",
    }
    assert states(made) == before
    forced = what_is_to_do([request_of(tokenizer, "f16", "q8_0", "q4_k")], made, force=True)
    assert (forced.there, forced.nbytes - left.nbytes) == ({}, (made / F16).stat().st_size)


def test_a_file_made_from_a_file_is_compared_by_its_rows(tokenizer: Path, made: Path, tmp_path: Path) -> None:
    out, told = tmp_path / "q4", list[str]()

    def quantize() -> None:
        request = make_request_of_file(made / F16)
        convert([request], out, threads=2, tell=told.append)

    quantize()
    quantize()
    assert told == [f"{out / 'x.gguf'}: {MADE}"]
    set_weight(tokenizer, WEIGHT, 0, 0.5)
    convert([request_of(tokenizer, "f16")], made, threads=2, force=True)
    shards_as_before(out / "x.gguf", made / F16)
    says = r"already exists, with other weights in tensor enc\.blk\.1\.fc1\.weight, row 0"
    with pytest.raises(InputError, match=f"x.gguf: {says}{FORCE}"):
        quantize()


def make_request_of_file(path: Path) -> Request:
    return Request(model_of_file(path), [TYPES["q4_k"]], options_of(allow_requantize=True), "x.gguf")


def shards_as_before(made: Path, source: Path) -> None:
    """Give the source the hashes of shards that the file records, as if nobody had recorded any."""
    name = b"  model.safetensors"
    hashes = [path.read_bytes() for path in (made, source)]
    ours, theirs = (data[data.index(name) - 64 : data.index(name)] for data in hashes)
    source.write_bytes(hashes[1].replace(theirs, ours))
