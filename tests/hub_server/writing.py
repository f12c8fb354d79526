"""Requests that write: repositories, large files, commits."""

import base64
import hashlib
import json
import re
from typing import Any

import yaml

from .hub import LARGE, etag, read
from .request import Request


def whoami(request: Request) -> None:
    if not (names := request.names()):
        return request.refuse(401, "Invalid credentials in Authorization header")
    token = {"displayName": "tests", "role": request.hub.role}
    about = {"type": "user", "name": names[0], "orgs": [{"type": "org", "name": name} for name in names[1:]]}
    return request.send_json({**about, "auth": {"type": "access_token", "accessToken": token}})


def create(request: Request) -> None:
    asked = request.json()
    if not request.names():
        return request.refuse(401, "Invalid username or password.")
    owner = asked.get("organization") or request.names()[0]
    repo = f"{owner}/{asked['name']}"
    if owner not in request.names():
        return request.refuse(403, f"You don't have the rights to create a model under the namespace {owner!r}")
    with request.hub.lock:
        if repo in request.hub.written:
            return request.send_json(
                {"error": "You already created this model repo", "url": f"{request.hub.url}/{repo}"}, 409
            )
        private = asked.get("visibility") == "private" or asked.get("private") is True
        request.hub.put(repo, {".gitattributes": b"*.gguf filter=lfs\n"}, private=private, message="initial commit")
    return request.send_json({"url": f"{request.hub.url}/{repo}", "name": repo})


def writable(request: Request, repo: str) -> bool:
    """Whether the sender may write to the repository; otherwise, the request is answered."""
    if not request.names():
        request.refuse(401, "Invalid username or password.")
    elif repo not in request.hub.written:
        request.refuse(404, "Repository not found", "RepoNotFound")
    elif repo.split("/")[0] not in request.names() or request.hub.role == "read":
        request.refuse(403, "You don't have the required permissions to write to this repo")
    else:
        return True
    return False


def may_propose(request: Request, repo: str) -> bool:
    """Whether the sender may read the repository, and write to a pull request; otherwise, the request is answered."""
    hub = request.hub
    if not request.names():
        request.refuse(401, "Invalid username or password.")
    elif repo not in hub.written or (hub.written[repo].private and repo.split("/")[0] not in request.names()):
        request.refuse(404, "Repository not found", "RepoNotFound")
    elif hub.role == "read":
        request.refuse(403, "You don't have the required permissions to open a pull request")
    else:
        return True
    return False


def validate_yaml(request: Request) -> None:
    """Of a card's metadata, only whether it is YAML."""
    block = re.match(r"---\n(.*?)\n---", request.json()["content"], re.DOTALL)
    try:
        yaml.safe_load(block[1] if block else "")
    except yaml.YAMLError as error:
        return request.send_json({"errors": [{"message": f"YAML: {error.args[0]}"}], "warnings": []}, 400)
    return request.send_json({"errors": [], "warnings": []})


def preupload(request: Request, repo: str, revision: str) -> None:
    if not (may_propose if opens_pull_request(request) else writable)(request, repo):
        return
    snapshot = request.hub.snapshot(repo, revision)
    if snapshot is None:
        return request.refuse(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    files = snapshot.files
    modes = [
        {
            "path": file["path"],
            "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
            "shouldIgnore": False,
            "oid": etag(file["path"], read(files[file["path"]])) if file["path"] in files else None,
        }
        for file in request.json()["files"]
    ]
    return request.send_json({"files": modes})


def opens_pull_request(request: Request) -> bool:
    """Whether the request is about a new pull request, which everybody may open."""
    return request.query.get("create_pr") == ["1"]


def batch(request: Request, repo: str) -> None:
    """How to upload large files: not at all if they are here, in one piece, or in parts. Without a ref, they are for a
    pull request, or for anything."""
    if not (writable if "ref" in request.json() else may_propose)(request, repo):
        return
    hub, objects = request.hub, []
    for wanted in request.json()["objects"]:
        oid, size = wanted["oid"], wanted["size"]
        objects.append({"oid": oid, "size": size})
        if oid in hub.store:
            continue
        upload: dict[str, Any] = {"href": f"{hub.url}/store/{oid}"}
        if size > hub.part_size:
            n_parts = -(-size // hub.part_size)
            urls = {f"{n:05}": f"{hub.url}/store/{oid}/{n}" for n in range(1, n_parts + 1)}
            upload = {"href": f"{hub.url}/store/{oid}/complete", "header": {"chunk_size": str(hub.part_size), **urls}}
            hub.parts[oid] = {}
        objects[-1]["actions"] = {"upload": upload, "verify": {"href": f"{hub.url}/{repo}.git/info/lfs/objects/verify"}}
    request.send_json({"transfer": "basic", "objects": objects})


def put(request: Request, file: str) -> None:
    """Keep what came, whatever it is: of the real store, nobody knows more than that it looks at the size."""
    request.hub.store[file] = request.body
    request.send(200, {"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})


def put_part(request: Request, file: str, part: str) -> None:
    request.hub.parts[file][int(part)] = request.body
    request.send(200, {"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})


def complete(request: Request, file: str) -> None:
    parts = request.hub.parts.pop(file)
    tags = [(n, f'"{hashlib.md5(parts[n]).hexdigest()}"') for n in sorted(parts)]
    if tags != [(part["partNumber"], part["etag"]) for part in request.json()["parts"]]:
        return request.refuse(400, "the parts are not those that were sent")
    request.hub.store[file] = b"".join(parts[n] for n in sorted(parts))
    return request.send_json({})


def verify(request: Request, repo: str) -> None:
    asked = request.json()
    there = len(request.hub.store.get(asked["oid"], b"")) == asked["size"]
    request.send_json({}) if there else request.refuse(422, "the object is not of the size that was announced")


def make_commit(request: Request, repo: str, revision: str) -> None:
    hub = request.hub
    if not (may_propose if opens_pull_request(request) else writable)(request, repo):
        return None
    lines = [json.loads(line) for line in request.body.splitlines()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    with hub.lock:
        written = hub.written[repo]
        head = hub.snapshot(repo, revision)
        if revision not in written.branches or head is None:
            return request.refuse(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        parent = hub.snapshot(repo, header.get("parentCommit", head.commit))
        if parent is None or (parent != head and not opens_pull_request(request)):
            return request.refuse(412, "A commit has happened since. Please refresh and try again.")
        files: dict[str, bytes] = {}
        deleted: list[str] = []
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in hub.store:
                    return request.refuse(422, f"{value['path']}: no object {value['oid']}")
                files[value["path"]] = hub.store[value["oid"]]
            elif line["key"] == "deletedFile":
                if value["path"] not in parent.files:
                    return request.refuse(404, "A file with this name doesn't exist", "EntryNotFound")
                deleted.append(value["path"])
        address = {}
        if opens_pull_request(request):
            number = len(written.pull_requests) + 1
            revision = f"refs/pr/{number}"
            address["pullRequestUrl"] = f"{hub.url}/{repo}/discussions/{number}"
        commits = written.branches.setdefault(revision, [])
        message = "\n\n".join(filter(None, [header["summary"], header.get("description")]))
        made = hub.commit(repo, commits, parent, files, deleted, message=message)
    about = {"success": True, "commitOid": made, "commitUrl": f"{hub.url}/{repo}/commit/{made}"}
    return request.send_json({**about, **address})
