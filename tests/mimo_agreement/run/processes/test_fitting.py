"""How many processes fit into memory."""

from hypothesis import given
from hypothesis import strategies as st

from mimo_agreement.run.processes.fitting import PROCESS_BYTES, fitting, own_bytes, tell_of_fewer

GB = 10**9
MEMORY = {"mapped": 5 * GB, "working": GB, "repacked": 0}


@given(st.integers(1, 128), st.integers(0, 64 * GB), st.integers(0, 16 * GB))
def test_what_runs_fits_and_one_more_would_not(n: int, available: int, mapped: int) -> None:
    found, each = fitting(n, MEMORY, mapped, available), own_bytes(MEMORY)
    assert 1 <= found <= n
    assert found == 1 or mapped + (found - 1) * each <= available
    assert found == n or mapped + found * each > available


def test_repacked_weights_are_each_process_s_own_and_mapped_ones_are_not() -> None:
    assert own_bytes(MEMORY) == PROCESS_BYTES + GB
    assert own_bytes(MEMORY | {"repacked": 5 * GB}) == PROCESS_BYTES + 6 * GB


def test_fewer_are_told(capsys) -> None:  # type: ignore[no-untyped-def]
    tell_of_fewer("--workers", 8, 2, MEMORY, 5 * GB, 7 * GB)
    assert capsys.readouterr().err == (
        "--workers 8: 2 fit into memory; each takes 1.21 GB beside 5.00 GB of files that they share, and 7.00 GB more "
        "are free\n"
    )
