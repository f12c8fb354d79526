"""What the operator of a worker says on its command line."""

from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("distributed")

from mimo_agreement.cluster import worker
from mimo_agreement.cluster.datasets import HubDataset
from mimo_agreement.cluster.station import Operator


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch) -> Operator:
    monkeypatch.setattr(worker, "OPERATOR", Operator())
    return worker.OPERATOR


def test_options_say_what_may_be_read_and_fetched(operator: Operator, tmp_path: Path) -> None:
    context = worker.dask_setup.make_context(
        "worker", ["--root", str(tmp_path), "--dataset", f"some/clips@{'a' * 40}", "--threads", "3"]
    )
    worker.dask_setup.callback(None, **context.params)
    assert operator == Operator((tmp_path,), None, 3, (HubDataset("some/clips", "a" * 40),))


def test_a_dataset_that_may_move_is_a_usage_error(operator: Operator) -> None:
    result = CliRunner().invoke(worker.dask_setup, ["--dataset", "some/clips@main"])
    assert result.exit_code == 2
    assert (
        "Invalid value for '--dataset': 'some/clips@main' is not a dataset at a commit; expected OWNER/NAME@COMMIT"
        in (" ".join(result.output.split()))
    )
