"""A process that runs packs: it gets them from the station of its worker by a connection."""

from mimo_agreement.run.processes.worker import Answer, main

from .jobs import PackSetup


def pack_runner(setup: PackSetup) -> Answer:
    """What runs packs, one after the other."""
    from .packs import PackRunner  # late: the families are slow to import

    runner = PackRunner(setup.model, setup.places, setup.threads)
    return lambda packs: map(runner.run, packs)


if __name__ == "__main__":
    main(pack_runner)
