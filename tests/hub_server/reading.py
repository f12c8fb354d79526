"""Requests that read: facts of a repository, listings, files."""

from typing import Any

from .hub import LARGE, Content, Snapshot, commit, etag, git_blob, read
from .request import Request


def readable(request: Request, repo: str, revision: str | None) -> Snapshot | None:
    """The files of a repository that the sender may see; otherwise, the request is answered, and it is None."""
    hub = request.hub
    hidden = repo in hub.written and hub.written[repo].private and repo.split("/")[0] not in request.names()
    if hidden or (repo not in hub.written and repo not in hub.repos):
        known = not hub.tokens or request.names()  # the real one says 401 to strangers
        request.refuse(404 if known else 401, "Repository not found", "RepoNotFound")
        return None
    snapshot = hub.snapshot(repo, revision or "main")
    if snapshot is None:
        request.refuse(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return snapshot


def info(request: Request, repo: str, revision: str | None = None) -> None:
    if snapshot := readable(request, repo, revision):
        written = request.hub.written.get(repo)
        siblings = [{"rfilename": name} for name in snapshot.files]
        about = {"id": repo, "modelId": repo, "sha": snapshot.commit, "siblings": siblings}
        request.send_json({**about, "private": bool(written and written.private)})


def tree(request: Request, repo: str, revision: str, folder: str = "") -> None:
    if not (snapshot := readable(request, repo, revision)):
        return
    prefix = f"{folder}/" if folder else ""
    files = {name: file for name, file in snapshot.files.items() if name.startswith(prefix)}
    entries = [entry(name, file) for name, file in files.items()]
    if request.query.get("recursive", ["false"])[0].lower() not in ("true", "1"):
        entries = [one for one in entries if "/" not in str(one["path"])[len(prefix) :]]
        folders = {prefix + rest.split("/")[0] for name in files if "/" in (rest := name[len(prefix) :])}
        entries += [{"type": "directory", "path": name, "oid": commit(name), "size": 0} for name in sorted(folders)]
    begin = int(request.query.get("cursor", ["0"])[0])
    end, headers = begin + request.hub.page_size, {}
    if end < len(entries):
        query = "&".join(f"{key}={value[0]}" for key, value in {**request.query, "cursor": [str(end)]}.items())
        headers["Link"] = f'<{request.hub.url}{request.address}?{query}>; rel="next"'
    request.send_json(entries[begin:end], **headers)


def entry(name: str, file: Content) -> dict[str, Any]:
    """A file in a listing."""
    data = read(file)
    values: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": git_blob(data)}
    if name.endswith(LARGE):
        values["oid"] = git_blob(etag(name, data).encode())  # of the pointer, more or less
        values["lfs"] = {"oid": etag(name, data), "size": len(data), "pointerSize": 134}
    return values


def resolve(request: Request, repo: str, revision: str, file: str) -> None:
    if not (snapshot := readable(request, repo, revision)):
        return
    if file not in snapshot.files:
        headers = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
        return request.send(404, {**headers, "X-Repo-Commit": snapshot.commit})
    data = read(snapshot.files[file]) if request.fault.content is None else request.fault.content
    size, tag = len(data), f'"{etag(file, data)}"'
    headers = {"X-Repo-Commit": snapshot.commit, "ETag": tag, "Accept-Ranges": "bytes"}
    if file.endswith(LARGE):
        headers |= {"X-Linked-Size": str(size), "X-Linked-ETag": tag}
    if asked := request.headers.get("Range"):
        first, last = asked.removeprefix("bytes=").split("-")
        begin, end = int(first), min(int(last or size - 1), size - 1)
        if begin >= size:
            return request.send(416, {"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {begin}-{end}/{size}"
        return request.send(206, headers, data[begin : end + 1])
    return request.send(200, headers, data)
