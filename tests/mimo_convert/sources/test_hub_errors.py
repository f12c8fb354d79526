"""When something is tried again, and what is told."""

import time
from pathlib import Path

import pytest

from mimo_convert.sources.hub_errors import TRIES, raising_input_error, retry
from quantize.errors import InputError


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


class Failing:
    """Raises the errors one after the other, then returns."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_a_connection_that_fails_is_tried_again_after_longer_and_longer_waits(waits: list[float]) -> None:
    told: list[str] = []
    assert retry(Failing(*[ConnectionError("gone")] * (TRIES - 1)), told.append) == "done"
    assert waits == [1, 2, 4]
    assert told == [f"the connection failed: gone; trying again in {n} s" for n in (1, 2, 4)]
    with pytest.raises(ConnectionError):
        retry(Failing(*[ConnectionError("gone")] * TRIES))


@pytest.mark.parametrize("error", [InputError("x", "is wrong"), ValueError("bad"), FileNotFoundError("file")])
def test_what_would_fail_again_is_not_tried_again(waits: list[float], error: Exception) -> None:
    with pytest.raises(type(error)):
        retry(Failing(error))
    assert waits == []


def test_our_own_mistakes_keep_their_traceback() -> None:
    with pytest.raises(KeyError), raising_input_error("x", "cannot be read"):
        Failing(KeyError("ours"))()
    with pytest.raises(InputError, match=r"^x: cannot be read: bad$"), raising_input_error("x", "cannot be read"):
        Failing(ValueError("bad"))()


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"^x: cannot be published: .*No such file"),
        raising_input_error("x", "cannot be published"),
    ):
        (tmp_path / "none").read_bytes()
