"""State of the repository that is published to, and whether its user may."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from mimo_convert.sources.hub_errors import checked_response, raising_input_error, retry
from mimo_convert.sources.hub_listing import COMMIT, HubFile, Listing, list_repo, read_range
from quantize.errors import InputError

from ..destination import MAIN, Destination
from .collection import find_collection
from .refs import PULL_REQUEST, Refs, list_refs

NOTHING = Refs({}, {}, {})


@dataclass(frozen=True)
class Remote:
    """The state of the repository OWNER/NAME at the branch `revision`.

    `listing` is None if the repository does not exist, or was not `asked` for; `new_branch`: the branch does not exist,
    and is to begin at main, which is listed. `refs` are known if an option is about them; `collection` is the slug of
    the one that gets the repository.
    """

    repo: str
    listing: Listing | None
    asked: bool = True
    revision: str = MAIN
    new_branch: bool = False
    refs: Refs = NOTHING
    collection: str = ""

    @property
    def exists(self) -> bool:
        """Whether the repository exists."""
        return self.listing is not None

    @property
    def private(self) -> bool:
        """Whether the repository is private."""
        return self.listing is not None and self.listing.private

    @property
    def head(self) -> str:
        """The commit that the next one is made on, or empty."""
        return self.listing.commit if self.listing else ""

    @property
    def files(self) -> Mapping[str, HubFile]:
        """Its files by path; empty if it does not exist."""
        return self.listing.files if self.listing else {}

    @property
    def present_branch(self) -> str:
        """The branch that is there now: `revision`, or main if that is new."""
        return MAIN if self.new_branch else self.revision


def look(to: Destination) -> Remote:
    """The repository's state, if the user may write to it.

    Raises InputError for an invalid name, a missing or invalid token or one without rights to it, a revision that takes
    no commits, a tag that is there, and a collection that is not.
    """
    check_name(to.repo)
    with raising_input_error(to.repo, "cannot be published to"), checked_response(to.repo):
        user = retry(lambda: HfApi().whoami())
        check_may_write(to, user)
        exists = retry(lambda: HfApi().repo_exists(to.repo))
        owners = [to.repo.split("/")[0], *names_of(user)]
    collection = find_collection(to.collection, list(dict.fromkeys(owners))) if to.collection else ""
    if not exists:
        check_may_be_new(to)
        return Remote(to.repo, None, revision=to.revision, new_branch=to.revision != MAIN, collection=collection)
    about_refs = to.revision != MAIN or to.tag is not None or to.create_pr
    refs = list_refs(to.repo) if about_refs else NOTHING
    new = about_refs and is_new_branch(to, refs)
    remote = Remote(
        to.repo, list_repo(to.repo, MAIN if new else to.revision),
        revision=to.revision, new_branch=new, refs=refs, collection=collection,
    )  # fmt: skip
    check_tag(remote, to)
    return remote


def check_name(repo: str) -> None:
    """Raise InputError for an invalid repository name."""
    if repo.count("/") != 1:
        raise InputError(repo, "is not a repository's name", expected="OWNER/NAME")
    with raising_input_error(repo, "cannot be published to"):
        validate_repo_id(repo)


def names_of(user: Mapping[str, Any]) -> list[str]:
    """The user's name and those of the user's organizations, in the Hub's record of a token's owner."""
    return [str(user.get("name", "")), *(str(one.get("name", "")) for one in user.get("orgs") or [])]


def check_may_write(to: Destination, user: Mapping[str, Any]) -> None:
    """Raise InputError unless the repository is the user's or an organization's, and the token may write. Everybody
    may open a pull request.

    `user` is the Hub's record of the token's owner. Fine-grained tokens are checked by the Hub at the first write.
    """
    role = ((user.get("auth") or {}).get("accessToken") or {}).get("role")
    if role not in ("read", "write"):
        return
    names: Sequence[str] = names_of(user)
    owner = to.repo.split("/")[0]
    if owner.casefold() not in map(str.casefold, names) and not to.create_pr:
        raise InputError(
            to.repo, f"{names[0]}'s token may not write under the name {owner}", expected=" or ".join(names)
        )
    if role == "read":
        raise InputError(to.repo, "the token is for reading alone", todo="make one that may write, and log in with it")


def check_may_be_new(to: Destination) -> None:
    """Raise InputError for options that need a repository that is there."""
    for option, given in {"--create-pr": to.create_pr, "--card-only": to.card_only}.items():
        if given:
            raise InputError(
                to.repo, "there is no such repository", todo=f"check the name, or publish the files without {option}"
            )


def is_new_branch(to: Destination, refs: Refs) -> bool:
    """Whether the branch is to be made. Raises InputError if the revision takes no commits."""
    name, where = to.revision, f"{to.repo}@{to.revision}"
    if name in refs.branches:
        return False
    if name.startswith(PULL_REQUEST) and to.create_pr:
        raise InputError(where, "is a pull request, and --create-pr opens another", todo="leave out one of them")
    if name in refs.pull_requests:
        return False
    if name.startswith("refs/"):
        raise InputError(where, "there is no such pull request", expected="the name of a branch, or refs/pr/NUMBER")
    if name in refs.tags or re.fullmatch(COMMIT, name):
        kind = "tag" if name in refs.tags else "commit"
        raise InputError(where, f"is a {kind}, which takes no further commits", expected="the name of a branch")
    if to.create_pr:
        branches = ", ".join(refs.branches)
        raise InputError(where, "there is no such branch to open a pull request against", expected=f"one of {branches}")
    return name != MAIN


def check_tag(remote: Remote, to: Destination, *, changed: bool = False) -> None:
    """Raise InputError if the tag is there, unless it names the head and nothing is `changed`: then it is done."""
    if to.tag is None:
        return
    where, there = f"{remote.repo}@{to.tag}", remote.refs.tags.get(to.tag)
    if to.tag in remote.refs.branches:
        raise InputError(where, "is a branch", todo="give another --tag")
    if there is not None and (changed or there != remote.head):
        raise InputError(where, f"there is such a tag, of {there[:7]}", todo="give another --tag, or delete that one")


def check_visibility(remote: Remote, private: bool) -> None:
    """Raise InputError if private files would become public."""
    if private and remote.exists and not remote.private:
        raise InputError(
            remote.repo, "--private was given, and the repository is public",
            todo="make it private in its settings, or leave out --private",
        )  # fmt: skip


def read_small(remote: Remote, name: str) -> bytes | None:
    """The content of a small remote file; None if there is none."""
    file = remote.files.get(name)
    return read_range(remote.repo, remote.head, name, 0, file.size) if file else None
