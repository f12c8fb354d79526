"""Options shared by commands that publish."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import click

from quantize.errors import InputError

from .paths import READS

# Of a publication, by the field of `Destination` that each gives; the repository is each command's own option.
OPTIONS = {
    "private": click.option("--private", is_flag=True, help="Make the repository private, if it is new."),
    "yes": click.option("--yes", is_flag=True, help="Go on without being asked."),
    "even_if_failed": click.option(
        "--even-if-failed", is_flag=True, help="Publish files whose check failed, too; the card says so at its top."
    ),
    "template": click.option(
        "--card-template", "template", type=READS, metavar="FILE",
        help="A Jinja2 template in place of our own model card (mimo_publish/card.md.j2).",
    ),
    "revision": click.option(
        "--revision", metavar="BRANCH", help="The branch, made if it is missing, or refs/pr/N.  [default: main]"
    ),
    "create_pr": click.option("--create-pr", is_flag=True, help="Open a pull request with the commit."),
    "message": click.option(
        "--commit-message", "message", metavar="TEXT", help="Of the commit; lines after the first are its description."
    ),
    "tag": click.option("--tag", metavar="NAME", help="Tag the new commit; an error if there is such a tag."),
    "collection": click.option(
        "--collection", metavar="SLUG_OR_TITLE", help="Add the repository to this collection of yours."
    ),
    "delete": click.option(
        "--delete", metavar="PATTERN", multiple=True,
        help="Delete what matches from the repository, in the same commit, once you agreed to the list; may repeat.",
    ),
    "delete_confirmed": click.option(
        "--delete-confirmed", type=click.IntRange(1), metavar="N",
        help="With --yes, agree to --delete if it is exactly N files.",
    ),
}  # fmt: skip


def publish_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of a publication: the command gets those that were given as `how`, by the field of `Destination`."""

    @functools.wraps(command)
    def wrapped(**values: Any) -> Any:
        given = {name: value for name in OPTIONS if (value := values.pop(name)) not in (None, False, ())}
        return command(**values, how=given)

    decorated: Callable[..., Any] = wrapped
    for option in reversed(OPTIONS.values()):
        decorated = option(decorated)
    return decorated


def check_has_destination(how: Mapping[str, Any], repo: str | None) -> None:
    """Raise InputError for options of a publication without a repository; `--yes` is also about a download."""
    for param in click.get_current_context().command.params:
        if param.name in how and param.name != "yes" and not repo:
            raise InputError(param.opts[0], "requires --publish, which was not given", todo="give both, or neither")
