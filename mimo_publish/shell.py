"""Shell commands of a model card, quoted."""

import re
import shlex

CONTROL = re.compile(r"[\x00-\x1f\x7f]")
LONGEST = 88  # characters of a command on one line


def command(*words: str) -> str:
    """A shell command, quoted; wrapped over several lines if it is long."""
    units: list[str] = []  # an option and its value stay together
    for word in words:
        if units and not word.startswith("-"):
            units[-1] += f" {_quoted(word)}"
        else:
            units.append(_quoted(word))
    lines = units[:1]
    for unit in units[1:]:
        if len(lines[-1]) + len(unit) < LONGEST:
            lines[-1] += f" {unit}"
        else:
            lines.append(unit)
    return " \\\n    ".join(lines)


def path(name: str) -> str:
    """A file name as an argument that is not an option."""
    return f"./{name}" if name.startswith("-") else name


def _quoted(word: str) -> str:
    """Quote a word for POSIX shells; control characters as bash and zsh do."""
    if not CONTROL.search(word):
        return shlex.quote(word)
    escaped = re.sub(r"[\\']", r"\\\g<0>", word)
    return "$'" + CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", escaped) + "'"
