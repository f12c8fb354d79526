"""mimo-publish: check the files of a folder, and put them on the Hub with their model card. Parse, call, print."""

import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from quantize.errors import InputError

from .check_options import adapter_option, audio_option, products_option, repack_option, report_options
from .console import AUDIO_TOKENIZER, handle_errors, results_option, threads_option
from .paths import FOLDER, READS, SOURCE, current_claims

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


@click.command(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("folder", type=FOLDER, metavar="DIR")
@click.option("--to", "repo", metavar="USER/REPO", required=True, help="The repository on the Hub.")
@publish_options
@click.option(
    "--reference",
    type=SOURCE,
    metavar="CKPT_OR_FILE",
    help="What to compare the files with.  [default: the checkpoint on the Hub that they say they were made from]",
)
@click.option(
    "--reference-tokenizer", type=SOURCE, metavar="CKPT", help="The audio tokenizer's, beside a --reference checkpoint."
)
@audio_option
@click.option(
    "--report",
    "report_file",
    type=READS,
    metavar="FILE",
    help="What an earlier --json said of these very files, by their hashes: they are not checked again.",
)
@click.option(
    "--agreement",
    type=READS,
    metavar="FILE",
    help="What mimo-check agreement --json said of these very files, by their hashes: a section of the card.",
)
@adapter_option
@click.option(
    "--card-only",
    is_flag=True,
    help="Only the card and what else is made from the report, of files that are on the Hub as they were checked.",
)
@click.option("--base-model", metavar="OWNER/NAME", help="On the Hub, for the card of files that do not say theirs.")
@repack_option
@products_option
@results_option
@report_options
@threads_option
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show what would be checked and uploaded, with --report and -v also the card; write nothing.",
)
@click.version_option(package_name="mimo-convert")
@handle_errors
def main(
    folder: Path, repo: str, how: dict[str, Any], reference: str | None, reference_tokenizer: str | None, audio: Path,
    adapter: str | None, report_file: Path | None, agreement: Path | None, card_only: bool, base_model: str | None,
    repack: str, products: str, json_file: Path | None, junit_file: Path | None, html_file: Path | None, threads: int,
    dry_run: bool,
) -> None:  # fmt: skip
    """Check every GGUF file of the folder DIR, and publish them with a model card, checksums and the report.

    The card is written beside the files; your own paragraphs between its two marker comments stay as they are.

    Exit status: 0 published; 1 a check failed, or what arrived is not what was sent; 2 bad input or usage, also if the
    files are published, but not tagged or not in the collection; 3 internal error; 130 interrupted, or not agreed to.
    """
    from mimo_api import Destination, Outputs, PublishOptions, publish  # late: --help needs none of it
    from mimo_convert.command.outcome import exit_status

    options = PublishOptions(
        folder,
        Destination(repo, base_model=base_model, card_only=card_only, agreement=agreement, **how),
        audio,
        Outputs(json_file, junit_file, html_file),
        threads,
        reference_companions={AUDIO_TOKENIZER: reference_tokenizer},
        reference=reference,
        adapter=adapter,
        report=report_file,
        repack=repack,
        products=products,
        dry_run=dry_run,
    )
    published = publish(options, claims=current_claims())
    sys.exit(exit_status([published.passed]))


if __name__ == "__main__":
    main()
