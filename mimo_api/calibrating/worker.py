"""A process that runs packs: it gets them from the station of its worker by a connection, one after the other."""

from multiprocessing.connection import Connection

from mimo_agreement.run.processes.messages import READY, Refused
from mimo_agreement.run.processes.worker import main
from quantize.errors import InputError

from .jobs import PackSetup


def run_packs(connection: "Connection[object, object]") -> None:
    """Run the packs that come by the connection, to its end."""
    from .packs import PackRunner  # late: the families are slow to import

    setup = connection.recv()
    assert isinstance(setup, PackSetup)
    runner = PackRunner(setup.model, setup.places, setup.threads)
    connection.send(READY)
    while connection.poll(setup.idle) and (packs := connection.recv()):
        assert isinstance(packs, list)
        try:
            for pack in packs:
                connection.send(runner.run(pack))
        except InputError as error:
            connection.send(Refused(error.where, error.what, error.expected, error.todo))


if __name__ == "__main__":
    main(run_packs)
