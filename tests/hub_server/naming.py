"""Requests about what has a name: branches, tags, pull requests, collections."""

import re

from .hub import Collection
from .reading import readable
from .request import Request
from .writing import writable

BAD_NAME = re.compile(r"[\x00-\x20~^:?*\[\\]|\.\.|^refs/|^-|/$")
POSITION = {"position": 0}  # of one collection; those of a list have none
DATE = "2026-11-28T00:00:00.000Z"


def refs(request: Request, repo: str) -> None:
    if not readable(request, repo, None):
        return
    written = request.hub.written[repo]
    heads = {name: commits[-1].commit for name, commits in written.branches.items()}
    with_prs = request.query.get("include_prs") == ["1"]
    found = {
        "branches": {f"refs/heads/{name}": sha for name, sha in heads.items() if name not in written.pull_requests},
        "converts": {},
        "tags": {f"refs/tags/{name}": sha for name, sha in written.tags.items()},
        **({"pullRequests": {name: heads[name] for name in written.pull_requests}} if with_prs else {}),
    }
    request.send_json(
        {
            kind: [{"name": ref.split("/", 2)[2], "ref": ref, "targetCommit": sha} for ref, sha in named.items()]
            for kind, named in found.items()
        }
    )


def create_branch(request: Request, repo: str, name: str) -> None:
    if not writable(request, repo):
        return
    hub = request.hub
    start = hub.snapshot(repo, request.json().get("startingPoint", "main"))
    if start is None:
        return request.refuse(404, "Invalid rev id", "RevisionNotFound")
    if BAD_NAME.search(name):
        return request.refuse(400, f"Invalid reference for a branch: {name}")
    if name in hub.written[repo].branches:
        return request.refuse(409, f"Reference already exists: refs/heads/{name}")
    hub.written[repo].branches[name] = [start]
    return request.send_json({})


def create_tag(request: Request, repo: str, revision: str) -> None:
    if not writable(request, repo):
        return
    hub, name = request.hub, request.json()["tag"]
    tagged = hub.snapshot(repo, revision)
    if tagged is None:
        return request.refuse(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    if BAD_NAME.search(name):
        return request.refuse(400, f"Invalid reference for a tag: {name}")
    if name in hub.written[repo].tags:
        return request.refuse(409, f"Tag reference already exists: {name}")
    hub.written[repo].tags[name] = tagged.commit
    return request.send_json({})


def list_collections(request: Request) -> None:
    owners = request.query.get("owner", [])
    found = {slug: one for slug, one in request.hub.collections.items() if slug.split("/")[0] in owners}
    entries = [about(slug, one, most=4) for slug, one in found.items()]
    begin = int(request.query.get("cursor", ["0"])[0])
    end, headers = begin + request.hub.page_size, {}
    if end < len(entries):
        headers["Link"] = f'<{request.hub.url}{request.address}?owner={owners[0]}&cursor={end}>; rel="next"'
    request.send_json(entries[begin:end], **headers)


def get_collection(request: Request, slug: str) -> None:
    found = request.hub.collections.get(slug)
    request.send_json(about(slug, found) | POSITION) if found else request.refuse(404, f"Collection not found: {slug}")


def add_item(request: Request, slug: str) -> None:
    found, item = request.hub.collections.get(slug), request.json()["item"]
    if found is None:
        return request.refuse(404, f"Collection not found: {slug}")
    if slug.split("/")[0] not in request.names() or request.hub.role == "read":
        return request.refuse(403, "You don't have the required permissions to write to this collection")
    if item["type"] != "model" or item["id"] not in request.hub.written:
        return request.refuse(404, "Item not found")
    if item["id"] in found.items:
        return request.refuse(409, "Item already in collection")
    found.items.append(item["id"])
    return request.send_json(about(slug, found) | POSITION)


def about(slug: str, collection: Collection, most: int | None = None) -> dict[str, object]:
    """A collection, with the first items in a list of several."""
    items = [
        {"_id": f"{position:024x}", "id": name, "type": "model", "position": position}
        for position, name in enumerate(collection.items[:most])
    ]
    return {
        "slug": slug, "title": collection.title, "owner": {"name": slug.split("/")[0]}, "items": items,
        "lastUpdated": DATE, "private": False, "theme": "green", "upvotes": 0, "isUpvotedByUser": False,
    }  # fmt: skip
