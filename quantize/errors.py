"""The one family of errors a user can cause: each is a single line that says where, what, and what to do."""


class InputError(Exception):
    """Something the user gave is wrong.

    `where` names the file, tensor or key; `what` says what stands there, `expected` what should;
    `todo` what to do about it. The command lines print it as one line and exit with status 2.
    """

    def __init__(self, where: object, what: str, *, expected: str = "", todo: str = "") -> None:
        self.where, self.what, self.expected, self.todo = str(where), what, expected, todo
        line = f"{where}: {what}"
        if expected:
            line += f"; expected {expected}"
        if todo:
            line += f"; {todo}"
        super().__init__(" ".join(line.splitlines()))  # a name in a damaged file may hold line breaks


class WorthlessError(InputError):
    """Something is wrong with what a file is being made from: what there is of it is not worth keeping."""
