"""Weights beyond F16: killed and interrupted in the second pass."""

import signal
from pathlib import Path

import pytest

from mimo_convert.write.journal import Journal
from tests.damage import edit_tensor, set_weight, shard_of
from tests.synthetic import write_speech_lm

from .conftest import SMALLER_LM
from .killed import Fault, Runs
from .whole import GOES_ON, NAMES, TYPES_OF_NAMES, Whole, check_goes_on, counted, everywhere


@pytest.fixture(scope="session")
def whole_in_two_passes(checkpoints: tuple[Path, Path], both: list[Runs], memory: Path) -> Whole:
    """A weight beyond F16 in the second shard: a pass to there, one that looks at all weights, one that writes."""
    folder = memory / "two"
    lm = write_speech_lm(folder / "lm", **SMALLER_LM | {"n_shards": 2})
    beyond = "speech_embeddings.7.weight"
    assert shard_of(lm, beyond).name == "model-00002-of-00002.safetensors"
    edit_tensor(lm, beyond, lambda tensor: tensor.float())
    set_weight(lm, beyond, 3, 1e9)
    arguments = [lm, "--tokenizer", checkpoints[1], *TYPES_OF_NAMES, "--threads", 1]
    return counted(both[0], folder, arguments)


def test_killed_in_its_second_pass_a_run_goes_on_there(
    whole_in_two_passes: Whole, both: list[Runs], tmp_path: Path
) -> None:
    whole = whole_in_two_passes
    reserved = [i for i, call in enumerate(whole.calls) if call == ("posix_fallocate", f"{NAMES[0]}.part")]
    assert len(reserved) == 2
    reads = [sum(name == "preadv" for name, _ in calls) for calls in (whole.calls, whole.calls[reserved[1] :])]
    again = []

    def check(runs: Runs, out: Path, at: int) -> None:
        assert runs(*whole.arguments, "--out", out, fault=Fault("kill", at)).status == -signal.SIGKILL
        journals = [Journal.read(path) for path in out.glob("mimo-asr*.journal")]
        informed = any(journal and journal.origin.absmax for journal in journals)
        ended = check_goes_on(runs, out, whole.arguments, whole.files)
        again.append((informed, sum(name == "preadv" for name, _ in ended.calls)))

    everywhere(both, tmp_path, range(10, whole.sure, 40), check)
    there = [n for informed, n in again if informed]
    assert len(there) >= 3
    assert max(there) <= reads[1] < reads[0]
    assert min(there) < reads[1] / 2


def test_interrupted_in_its_second_pass_a_run_says_how_to_go_on(
    whole_in_two_passes: Whole, runs: Runs, tmp_path: Path
) -> None:
    whole, out = whole_in_two_passes, tmp_path / "out"
    ended = runs(*whole.arguments, "--out", out, fault=Fault("interrupt", whole.sure - 40))
    assert ended.status == 130
    assert f"{GOES_ON}, with what is in {NAMES[0]}.part" in ended.stderr
    check_goes_on(runs, out, whole.arguments, whole.files)
