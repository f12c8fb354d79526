"""Errors that a user can cause: a line each that says what is wrong, where, what was expected and what to do."""

from .quoting import quoted

# Characters of each part of the line that are shown: with all of them at their longest it fits into 2,000.
LONGEST_WHERE, LONGEST_WHAT, LONGEST_EXPECTED, LONGEST_TODO = 500, 500, 300, 400


class InputError(Exception):
    """Something the user gave is wrong.

    `where` names the file, tensor or key; `what` says what stands there, `expected` what should; `todo` what to do
    about it. The command lines print it as one line, escaped and of bounded length, and exit with status 2.
    """

    def __init__(self, where: object, what: str, *, expected: str = "", todo: str = "") -> None:
        self.where, self.what, self.expected, self.todo = str(where), what, expected, todo
        super().__init__(f"{quoted(where, LONGEST_WHERE)}: {self.message}")

    @property
    def message(self) -> str:
        """The message without `where`."""
        parts = [joined(self.what, LONGEST_WHAT)]
        if self.expected:
            parts.append(f"expected {joined(self.expected, LONGEST_EXPECTED)}")
        if self.todo:
            parts.append(joined(self.todo, LONGEST_TODO))
        return "; ".join(parts)


def joined(text: str, most: int) -> str:
    """Join the lines of a message, which may be a library's own, and shorten it to `most` characters."""
    return quoted(" ".join(text.splitlines()), most)


class WorthlessError(InputError):
    """An InputError about the data that a file is made from: a partial output must not be kept."""


def reason_of(error: OSError) -> str:
    """The operating system's reason for an error, as text."""
    return error.strerror or str(error) or type(error).__name__
