"""Send what is in the outbox: after a run, whatever it found, and after one that could not."""

from collections.abc import Callable
from contextlib import closing

from mimo_nightly.config import Config, folder_of
from mimo_nightly.files.lock import locked
from mimo_nightly.history import History
from mimo_nightly.run import now, write_page
from quantize.errors import InputError

from .channel import Channel, NotSentError
from .command import Command
from .message import message_of
from .outbox import Outbox
from .webhook import webhook_of


def channel_of(config: Config) -> Channel | None:
    """How a config tells somebody; None if it does not. Raises InputError for a webhook's URL that cannot be used."""
    if config.notify is None:
        return None
    if config.notify.command:
        return Command(config.notify.command, folder_of(config.path))
    try:
        return webhook_of(config.notify.webhook_env)
    except InputError as error:
        where = f"{config.path}: [notify]: {error.where}"
        raise InputError(where, error.what, expected=error.expected) from None


def notify(config: Config, channel: Channel, tell: Callable[[str], None]) -> None:
    """Send one message about all pending changes, if there are any. Whether that succeeds is recorded and told; it
    raises nothing, since the run's result does not depend on it."""
    try:
        with locked(config.history, now()), closing(History(config.history)) as history:
            outbox = Outbox(history)
            changes = outbox.pending()
            if not changes:
                return
            n = f"{len(changes)} change{'s' * (len(changes) != 1)} of state"
            try:
                channel.send(message_of(changes, history, config, channel.size))
            except NotSentError as error:
                outbox.set_failed(changes, now(), str(error))
                tell(f"notify: {error}; the next run tells {n}")
            else:
                outbox.set_sent(changes, now())
                tell(f"notify: told {channel.name} of {n}")
            write_page(history, config)
    except InputError as error:
        tell(f"notify: {error}")
