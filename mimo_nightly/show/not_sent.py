"""A notification that failed, for whoever looks next."""

from mimo_nightly.history import History
from mimo_nightly.notify.outbox import UNKNOWN, Outbox

from .figures import moment

MOST = 5  # changes that are named


def not_sent(history: History) -> list[str]:
    """Why the last notification failed, and which changes of state nobody was told of; empty if none failed."""
    failed = [change for change in Outbox(history).pending() if change.failure]
    if not failed:
        return []
    named = [
        f"{one.target} {'' if one.before == UNKNOWN else f'{one.before} → '}{one.after} (run {one.run})"
        for one in failed[-MOST:]
    ]
    others = [f"{len(failed) - MOST} more before"] if len(failed) > MOST else []
    return [
        f"Notification failed on {moment(failed[-1].tried)} UTC: {failed[-1].failure}",
        f"Nobody was told of this yet, the next run tells it: {', '.join([*others, *named])}",
    ]
