"""Changes of state in the history: each is recorded with the result that shows it, and stays until it is sent.

So none is lost with a process that is killed, or with a message that nobody took.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

from mimo_convert.fields import Fields
from mimo_convert.sqlite_file import places, plain
from mimo_nightly.history import History, TargetResult
from mimo_nightly.show.figures import FAIL, HEADER_ONLY, NOT_CHECKED, PASS, state_word
from mimo_nightly.tables import MOST_RUNS, TIME, TIMES

BAD = (FAIL, NOT_CHECKED)
STATES = (PASS, FAIL, NOT_CHECKED, HEADER_ONLY)
UNKNOWN = ""  # state before the first run


@dataclass(frozen=True)
class Change:
    """The change of a target's state in a run; `before` is empty if nobody was told of one.

    Times are UTC in ISO 8601: `tried` of the last attempt to send it that failed, for the reason `failure`; `sent`.
    They are empty until then.
    """

    run: int
    target: str
    before: str
    after: str
    tried: str = ""
    failure: str = ""
    sent: str = ""


COLUMNS = ", ".join(one.name for one in fields(Change))


class Outbox:
    """The changes of state in a history."""

    def __init__(self, history: History) -> None:
        self.history = history

    def change_of(self, result: TargetResult) -> Change | None:
        """The change that a result, which is not recorded yet, makes to what is told of its target; None if none.

        A target is taken to be good until somebody is told otherwise.
        """
        told = self._changes("WHERE target = ? ORDER BY rowid DESC LIMIT 1", (plain(result.target),))
        states = self.history.states(result.target)
        recorded = [state_word(one.state, one.scope) for one in states[-1:] if not told]
        before = told[0].after if told else next((word for word in recorded if word not in BAD), UNKNOWN)
        after = state_word(result.state, result.scope)
        changed = after in BAD if before == UNKNOWN else after != before
        return Change(result.run, result.target, before, after) if changed else None

    def add(self, change: Change) -> None:
        """Record a change that is to be told."""
        row = tuple(map(plain, astuple(change)))
        with self.history.transaction():
            self.history.connection.execute(f"INSERT INTO notifications VALUES ({places(len(row))})", row)

    def pending(self) -> list[Change]:
        """The changes that nobody was told of yet, oldest first."""
        return self._changes("WHERE sent = '' ORDER BY rowid")

    def newest(self, n: int) -> list[Change]:
        """The newest `n` changes, oldest first."""
        return self._changes(f"ORDER BY rowid DESC LIMIT {n}")[::-1]

    def set_sent(self, changes: Sequence[Change], at: str) -> None:
        """Record that changes were sent."""
        self._update("sent = ?", (at,), changes)

    def set_failed(self, changes: Sequence[Change], at: str, why: str) -> None:
        """Record that changes could not be sent; they stay pending."""
        self._update("tried = ?, failure = ?", (at, plain(why)), changes)

    def _changes(self, which: str, values: Sequence[object] = ()) -> list[Change]:
        return [change_in(row) for row in self.history.rows(COLUMNS, f"FROM notifications {which}", values)]

    def _update(self, what: str, values: Sequence[object], changes: Sequence[Change]) -> None:
        rows = [(*values, change.run, change.target) for change in changes]
        with self.history.transaction():
            statement = f"UPDATE notifications SET {what} WHERE run = ? AND target = ?"
            self.history.connection.executemany(statement, rows)


def change_in(row: Fields) -> Change:
    """A row as a change. Raises InputError if it is none."""
    return Change(
        row.whole("run", MOST_RUNS), row.text("target"), row.one_of("before", (*STATES, UNKNOWN)),
        row.one_of("after", STATES), row.text("tried", TIMES, TIME), row.text("failure"), row.text("sent", TIMES, TIME),
    )  # fmt: skip
