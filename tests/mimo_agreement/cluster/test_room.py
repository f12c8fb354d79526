"""No more processes of a worker run at once than fit into memory; the first one alone."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock

from hypothesis import given, settings
from hypothesis import strategies as st

from mimo_agreement.cluster.room import Room
from mimo_agreement.run.processes.fitting import own_bytes

MEMORY = {"working": 10**9}
EACH = own_bytes(MEMORY)


@settings(max_examples=20, deadline=None)
@given(threads=st.integers(1, 6), more=st.integers(0, 8))
def test_as_many_run_as_fit_and_all_get_their_turn(threads: int, more: int) -> None:
    room, lock = Room(threads, 0, lambda: more * EACH), Lock()
    fit, most, running, measured = min(threads, 1 + more), 0, 0, False

    def job(_: int) -> None:
        nonlocal running, most, measured
        with room.taken():
            with lock:
                running += 1
                most = max(most, running)
                assert running <= (fit if measured else 1)
                measured = True
            room.measure(MEMORY)
            with lock:
                running -= 1

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(job, range(3 * threads)))
    assert most <= fit
    assert (room.running, room.fit) == (0, fit)


def test_those_that_fit_do_run_at_once() -> None:
    room, together = Room(4, 0, lambda: 2 * EACH), Barrier(3)
    assert room.measure(MEMORY) == "3 of 4 threads run, which fit into memory"
    assert room.measure(MEMORY) == "", "once"

    def job(_: int) -> None:
        with room.taken():
            together.wait(30)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(job, range(6)))
    assert Room(4, 0, lambda: 3 * EACH).measure(MEMORY) == ""
