"""Collections of the Hub: find one by slug or title, and add a repository to it."""

import re
from collections.abc import Sequence
from functools import partial

from huggingface_hub import Collection, HfApi, constants

from mimo_convert.fields import one_of
from mimo_convert.sources.hub_errors import checked_response, raising_input_error, retry
from quantize.errors import InputError

from .refs import Tell

SLUG = re.compile(r"[\w.-]+/[\w.-]+-[0-9a-f]{24}")  # OWNER/TITLE-ID
OPTION = "--collection"
MOST = 1000  # collections of an owner that are searched


def find_collection(wanted: str, owners: Sequence[str]) -> str:
    """The slug of a collection, given by slug, page address, or title; a title is looked for among those of `owners`.

    Raises InputError if there is none, or several have the title.
    """
    slug = wanted.removeprefix(f"{constants.ENDPOINT}/collections/")
    with raising_input_error(OPTION, f"{wanted!r} cannot be found"), checked_response(OPTION):
        if SLUG.fullmatch(slug):
            return str(retry(lambda: HfApi().get_collection(slug)).slug)
        found = {str(one.slug): str(one.title) for owner in owners for one in retry(partial(collections_of, owner))}
    slugs = [slug for slug, title in found.items() if title.casefold() == wanted.strip().casefold()]
    if len(slugs) > 1:
        raise InputError(OPTION, f"{wanted!r} is the title of several", expected=f"a slug: {' or '.join(slugs)}")
    if not slugs:
        whose = " and ".join(owners)
        known = one_of(wanted, list(found.values())) if found else {"todo": "make it on the Hub first"}
        raise InputError(OPTION, f"there is no collection {wanted!r} of {whose}", **known)
    return slugs[0]


def collections_of(owner: str) -> list[Collection]:
    """The collections of a user or an organization, as the Hub's library records them."""
    return list(HfApi().list_collections(owner=owner, limit=MOST))


def add_to_collection(slug: str, repo: str, tell: Tell) -> None:
    """Add a repository to a collection; nothing to do if it is there. Raises InputError."""
    with raising_input_error(slug, "it cannot be added to the collection"), checked_response(slug):
        retry(lambda: HfApi().add_collection_item(slug, repo, "model", exists_ok=True), tell)
