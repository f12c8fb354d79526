"""The one family of errors a user can cause: each is a single line that says where, what, and what to do."""

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
        super().__init__(f"{quoted(where, LONGEST_WHERE)}: {self.said}")

    @property
    def said(self) -> str:
        """The line without its `where`."""
        parts = [joined(self.what, LONGEST_WHAT)]
        if self.expected:
            parts.append(f"expected {joined(self.expected, LONGEST_EXPECTED)}")
        if self.todo:
            parts.append(joined(self.todo, LONGEST_TODO))
        return "; ".join(parts)


def joined(text: str, most: int) -> str:
    """A sentence, which may be a library's own of several lines, in one."""
    return quoted(" ".join(text.splitlines()), most)


class WorthlessError(InputError):
    """Something is wrong with what a file is being made from: what there is of it is not worth keeping."""


def reason_of(error: OSError) -> str:
    """Why the system refused, in words."""
    return error.strerror or str(error) or type(error).__name__
