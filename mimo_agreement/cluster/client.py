"""The client of a cluster: it gives batches of jobs to the scheduler, and takes what they answered as it comes. Jobs
are those of an agreement, or of another pass over audio, each kind with a station of its own.

A scheduler that is lost is waited for; whatever has no answer then is sent again.
"""

import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from distributed import Client, Future, KilledWorker, Security

from mimo_agreement.run.jobs import Failed, Model, Outcome
from mimo_agreement.run.places import LocalPlaces
from mimo_agreement.run.processes.messages import Refused
from mimo_agreement.run.queue import Queue
from mimo_convert.listener import phase
from mimo_convert.terminal import tell
from quantize.errors import InputError
from quantize.quoting import quoted

from .address import TLS, ClusterAddress
from .batches import Batch, QueuedJobs, Source
from .places import FileFacts
from .station import Answered, Lacking, Station, answer_batch, receive

PATIENCE = 60.0  # seconds without a scheduler, or without a worker
PARTING = 5.0  # seconds that workers have to hear that the run has ended
CONNECT = 10.0  # seconds of an attempt to connect
LOOK = 0.5  # seconds between looks at the scheduler, where nothing comes
AHEAD = 2  # batches for each thread of a worker, so that none waits for the client
CHUNK = 1 << 22  # bytes of a file that are sent at once
SLOW, LEAST_SECONDS = 4.0, 30.0  # times what batches usually take, at least: then another worker tries, too
CA_FILE = "DASK_DISTRIBUTED__COMM__TLS__CA_FILE"


class LostError(Exception):
    """The scheduler is gone, or has forgotten what it was given."""


# The station of a run, by the run's name and the files of it, by their SHA-256.
BeginStation = Callable[[str, Mapping[str, FileFacts]], Station]


def answer_on_cluster(
    queue: Queue, models: Sequence[Model], places: LocalPlaces, address: ClusterAddress
) -> Iterator[Outcome]:
    """Answer every job of an agreement on the cluster at `address`; as `run_on_cluster`."""
    return run_on_cluster(QueuedJobs(queue), lambda run, files: Station(run, models, files), places, address)


def run_on_cluster(source: Source, begin: BeginStation, places: LocalPlaces, address: ClusterAddress) -> Iterator[Any]:
    """The outcome of every job on the cluster at `address`, as it comes: what its station answered, or Failed. `places`
    are the files of this machine, which workers that lack them are sent.

    Raises InputError for an address that is not safe, a cluster that is out of reach for PATIENCE seconds, or has no
    workers so long, and workers of other versions.
    """
    running = Running(source, begin, places, address)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters of it is told here
    while running.is_left:
        with running.connected() as client:
            try:
                yield from running.answers(client)
            except InputError:
                raise
            except Exception as error:
                if not isinstance(error, (LostError, OSError)) and client.status == "running":
                    raise
                running.begin_again()
                tell(f"{address.option} {address.text}: the scheduler is lost ({quoted(error)}); waiting for it")


class Running:
    """The jobs of a source, and the batches of them that are on the cluster."""

    def __init__(self, source: Source, begin: BeginStation, places: LocalPlaces, where: ClusterAddress) -> None:
        self.source, self.begin, self.places, self.where = source, begin, places, where
        self.address = where.checked()
        self.name = f"mimo-{secrets.token_hex(4)}"
        self.again: deque[Batch] = deque()  # to be sent again
        self.sent: dict[Future, Batch] = {}
        self.came: SimpleQueue[Future] = SimpleQueue()
        self.rates: list[float] = []  # seconds that batches took for a second of audio
        self.told: set[str] = set()
        self.supplied: dict[tuple[str, str], float] = {}  # when a worker was sent a file, by both

    @property
    def is_left(self) -> bool:
        """Whether a job has no outcome yet."""
        return bool(len(self.source) or self.again or self.sent)

    @contextmanager
    def connected(self) -> Iterator[Client]:
        """A client of the scheduler, for which it waits. Raises InputError after PATIENCE seconds."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                client = Client(
                    self.address,
                    timeout=CONNECT,
                    set_as_default=False,
                    security=security_of(self.address, self.where.option),
                )
                break
            except OSError as error:
                if time.monotonic() >= deadline:
                    what = f"{self.address} is out of reach for {PATIENCE:g} s: {error}"
                    todo = f"start a scheduler there; {self.where.resume}"
                    raise InputError(self.where.option, what, todo=todo) from error
                time.sleep(LOOK)
        try:
            yield client
        finally:
            ending = Thread(target=self._forget, args=[client], daemon=True)
            ending.start()
            ending.join(PARTING)  # a worker that does not answer any more would be waited for without end
            with suppress(Exception):
                client.close(timeout=LOOK)

    def _forget(self, client: Client) -> None:
        """Tell the workers that the run has ended."""
        with suppress(Exception):  # it may be lost
            client.unregister_worker_plugin(self.name)

    def answers(self, client: Client) -> Iterator[Any]:
        """Send batches and yield what they answer, until nothing is left. Raises LostError, and InputError as
        `run_on_cluster`."""
        self._begin(client)
        last = looked = time.monotonic()
        slots = 0
        while self.is_left:
            now = time.monotonic()
            if client.status != "running":
                raise LostError("no connection")
            if now - looked >= LOOK or not slots:
                looked, slots = now, sum(client.nthreads().values())
                last = now if slots else last
            if now - last > PATIENCE:
                what = f"{self.address} has no workers for {PATIENCE:g} s"
                raise InputError(self.where.option, what, todo="start some")
            self._send(client, slots)
            with suppress(Empty):
                yield from self._came(client, self.came.get(timeout=LOOK))

    def begin_again(self) -> None:
        """Put everything that was sent back: the scheduler has lost it."""
        for batch in self.sent.values():
            if not batch.ended:
                batch.ended = True
                for job in reversed(batch.jobs):
                    self.source.give_back(job)
        self.sent.clear()
        self.came = SimpleQueue()

    def _begin(self, client: Client) -> None:
        """Tell every worker, those that come later, too, what the run is about."""
        files = {sha256: FileFacts(path.name, path.stat().st_size) for sha256, path in self.places.paths.items()}
        try:
            client.register_plugin(self.begin(self.name, files))
        except OSError:
            raise
        except Exception as error:  # whatever a worker without the package raises
            what = f"its workers cannot run this: {type(error).__name__}: {error}"
            raise InputError(self.where.option, what, todo="install the same versions on every machine") from error

    def _send(self, client: Client, slots: int) -> None:
        """Send batches, AHEAD for each thread; where nothing is left to send, those that are slow once more."""
        while len(self.sent) < AHEAD * slots:
            while self.again and self.again[0].ended:  # a copy of it was faster
                self.again.popleft()
            batch = self.again.popleft() if self.again else self.source.next_batch(slots)
            workers = [batch.worker] if batch and batch.worker else []
            if batch is None and (batch := self._slow()):
                workers = self._idle(client)
            if batch is None or (batch.copies and not workers):
                return
            where = {"workers": workers, "allow_other_workers": True} if workers else {}
            key = f"{self.name}-{secrets.token_hex(8)}"
            future = client.submit(answer_batch, self.name, batch.jobs, key=key, pure=False, **where)
            batch.begun, batch.copies = time.monotonic(), batch.copies + 1
            self.sent[future] = batch
            future.add_done_callback(self.came.put)

    def _slow(self) -> Batch | None:
        """A batch that takes much longer than others did."""
        if not self.rates:
            return None
        usual = sorted(self.rates)[len(self.rates) // 2]
        for batch in self.sent.values():
            most = max(LEAST_SECONDS, SLOW * usual * batch.seconds)
            if batch.copies < 2 and time.monotonic() - batch.begun > most:
                return batch
        return None

    def _idle(self, client: Client) -> list[str]:
        """The workers of which a thread has nothing to do."""
        threads, running = client.nthreads(), client.processing()
        return [worker for worker, n in threads.items() if len(running.get(worker, ())) < n]

    def _ended(self, batch: Batch) -> None:
        """A batch has its outcomes: what is still sent of it is not waited for."""
        batch.ended = True
        for future in [one for one, of in self.sent.items() if of is batch]:
            del self.sent[future]
            future.cancel()

    def _came(self, client: Client, future: Future) -> Iterator[Any]:
        """Yield what a batch has answered, unless a copy of it came before; send what it lacks."""
        batch = self.sent.pop(future, None)
        if batch is None or batch.ended:
            return
        if future.status not in ("finished", "error"):
            self.sent[future] = batch
            raise LostError(future.status)
        if future.status == "error":
            yield from self._erred(batch, future.exception())
            return
        match future.result():
            case Refused() as refused:
                raise refused.error
            case Lacking(worker, hashes):
                batch.worker, batch.copies = worker, batch.copies - 1
                self.again.appendleft(batch)
                self._supply(client, worker, [one for one in hashes if not self._came_late(batch, worker, one)])
            case Answered(outcomes, said):
                self._ended(batch)
                self.rates.append((time.monotonic() - batch.begun) / max(batch.seconds, 1e-3))
                self._tell(said)
                for outcome in outcomes:
                    yield outcome
                    self.source.ended(outcome.job)

    def _erred(self, batch: Batch, error: BaseException) -> Iterator[Any]:
        """What follows from a batch on which workers died: its jobs are sent one by one, and one alone has failed."""
        if not isinstance(error, KilledWorker):
            raise error
        self._ended(batch)
        if len(batch.jobs) > 1:
            self.again.extend(Batch((job,)) for job in batch.jobs)
            return
        [job] = batch.jobs
        yield Failed(job, error.allowed_failures + 1, "the workers that had it died")
        self.source.ended(job)

    def _supply(self, client: Client, worker: str, hashes: Sequence[str]) -> None:
        """Send a worker files that it lacks. One that is gone is left to the scheduler."""
        for sha256 in hashes:
            path = self.places.path(sha256)
            with phase(f"sending {path.name}", path.stat().st_size) as sending, path.open("rb") as file:
                begin = 0
                while data := file.read(CHUNK):
                    try:
                        [refused] = client.run(receive, self.name, sha256, begin, data, workers=[worker]).values()
                    except (OSError, ValueError):  # none of its name: it died
                        return
                    if refused:
                        raise refused.error
                    begin += len(data)
                    sending.advance(len(data))
            self.supplied[worker, sha256] = time.monotonic()

    def _came_late(self, batch: Batch, worker: str, sha256: str) -> bool:
        """Whether a worker was sent a file after it was given the batch, which lacks it."""
        return self.supplied.get((worker, sha256), 0.0) > batch.begun

    def _tell(self, lines: Iterable[str]) -> None:
        """Tell what processes said, each line once."""
        for line in lines:
            if line not in self.told:
                self.told.add(line)
                tell(line)


def security_of(address: str, option: str) -> Security | None:
    """What a connection to the address of an `option` is encrypted with, as Dask's configuration says; None: nothing.
    Raises InputError if that is not configured."""
    if not address.startswith(TLS):
        return None
    security = Security(require_encryption=True)
    settings: Mapping[str, object] = security.get_connection_args("client")
    if settings.get("ssl_context") is None:
        todo = f"set {CA_FILE} and the client's key and certificate, or the same in distributed.yaml"
        raise InputError(option, f"{address} takes certificates, and Dask's configuration names none", todo=todo)
    return security
