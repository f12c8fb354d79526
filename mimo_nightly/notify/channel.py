"""What a way of telling somebody has to offer."""

from typing import Protocol


class NotSentError(Exception):
    """A message was not sent: in a line, why. No URL is in it but its host."""


class Channel(Protocol):
    """A way to tell somebody. `name` is how it is called: a program's name, or a host."""

    @property
    def name(self) -> str: ...

    @property
    def missing(self) -> str:
        """What it needs and is not there, such as a program; empty if nothing is."""

    def about(self) -> str:
        """What it does."""

    def size(self, text: str) -> int:
        """The bytes that a message takes."""

    def send(self, text: str) -> None:
        """Send a message. Raises NotSentError."""
