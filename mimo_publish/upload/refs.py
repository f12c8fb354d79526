"""Branches, tags and pull requests of a repository of the Hub."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from huggingface_hub import HfApi

from mimo_convert.sources.hub_errors import checked_response, raising_input_error, retry, status_of

Tell = Callable[[str], None]
PULL_REQUEST = "refs/pr/"  # and its number: the revision of a pull request


@dataclass(frozen=True)
class Refs:
    """The commit of each branch and tag by name, and of each pull request by its revision, `refs/pr/N`."""

    branches: Mapping[str, str]
    tags: Mapping[str, str]
    pull_requests: Mapping[str, str]


def list_refs(repo: str) -> Refs:
    """List what has a name in a repository. Raises InputError if it cannot be listed."""
    with raising_input_error(repo, "its branches cannot be listed"), checked_response(repo):
        found = retry(lambda: HfApi().list_repo_refs(repo, include_pull_requests=True))
        return Refs(commits(found.branches), commits(found.tags), commits(found.pull_requests or [], "ref"))


def commits(refs: Iterable[Any], key: str = "name") -> dict[str, str]:
    """The commit of each ref, as the Hub's library lists them."""
    return {str(getattr(ref, key)): str(ref.target_commit) for ref in refs}


def create_branch(repo: str, name: str, commit: str, tell: Tell) -> None:
    """Create a branch at a commit, unless somebody has."""
    tell(f"{repo}: creating the branch {name} at {commit[:7]}")
    with checked_response(repo):
        retry(lambda: HfApi().create_branch(repo, branch=name, revision=commit, exist_ok=True), tell)


def create_tag(repo: str, name: str, commit: str, tell: Tell) -> None:
    """Tag a commit; nothing to do if it has this tag, as after a response that was lost. Raises InputError."""
    with raising_input_error(f"{repo}@{name}", "the tag cannot be made"):
        try:
            with checked_response(repo):
                retry(lambda: HfApi().create_tag(repo, tag=name, revision=commit), tell)
        except Exception as error:
            if status_of(error) != 409 or list_refs(repo).tags.get(name) != commit:
                raise
