"""What processes of the tests do with signals."""

import signal


def heed_interrupts() -> None:
    """For a process that is to be interrupted: what runs the tests in the background may have told it not to be."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
