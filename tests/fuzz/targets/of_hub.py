"""What the Hub answers: a server on this machine, of whose answers one is changed."""

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.fuzz import complete
from tests.fuzz.case import Case, Edits
from tests.fuzz.damage.formats import json_is_object
from tests.fuzz.damage.mutate import Random, dump, edit_bytes, edit_json, hostile_integer, hostile_string
from tests.fuzz.forked import WORKER
from tests.fuzz.seeds import FOUND, REPO, Seeds
from tests.hub_server import Asked, Collection, Fault

READ, WRITE = (
    ["info", "tree", "tree", "resolve"],
    ["whoami", "create", "preupload", "batch", "commit", "verify", "yaml"],
)
HOW = {  # the requests that an option adds
    (): [],
    ("--revision", "next"): ["refs", "branch"],
    ("--tag", "v1"): ["refs", "tag"],
    ("--create-pr",): ["refs"],
    ("--collection", "Tiny"): ["collections", "item"],
    ("--collection", f"someone/tiny-{0:024x}"): ["collection", "item"],
    ("--delete", "other*", "--delete-confirmed", "1"): [],
    ("--card-only",): [],
}
HEADERS = [
    "ETag",
    "X-Linked-ETag",
    "X-Linked-Size",
    "X-Repo-Commit",
    "Content-Range",
    "Link",
    "Location",
    "X-Error-Message",
]
Answer = tuple[dict[str, str], bytes]


class Liar:
    """Changes the answers to requests of one `kind`: from the first or a later one on."""

    def __init__(self, e: Edits, kind: str) -> None:
        self.e, self.kind, self.after = e, kind, e.choice_of([0, 0, 0, 1, 2])
        self.changed = self.past_header = False

    def __call__(self, asked: Asked) -> Fault | None:
        if asked.kind != self.kind or not self.e.kept:
            return None
        self.after -= 1
        return Fault(rewrite=self.rewrite) if self.after < 0 else None

    def rewrite(self, headers: dict[str, str], body: bytes) -> Answer:
        """The same changes each time; past the header is what still is JSON, or has only other headers."""
        answer = self.e.apply(edit_answer, (headers, body))
        is_json = headers.get("Content-Type") == "application/json"
        self.past_header = not is_json or is_json_value(answer[1])
        self.changed = True
        return answer


def is_json_value(data: bytes) -> bool:
    with suppress(ValueError, RecursionError):
        json.loads(data)
        return True
    return json_is_object(data)


def edit_answer(choose: Random, answer: Answer) -> Answer:
    headers, body = answer
    if headers.get("Content-Type") == "application/json" and choose.random() < 0.85:
        try:
            tree = json.loads(body)
        except (ValueError, RecursionError):
            return headers, edit_bytes(choose, body)
        return headers, dump(choose, edit_entries(choose, tree))
    if headers.get("Content-Type") != "application/json" and choose.random() < 0.3:
        return headers, edit_bytes(choose, body)
    text = choose.choice(
        [str(hostile_integer(choose)), hostile_string(choose)[:3000], '"', "bytes 0-1/2", "a/b", "../../x"]
    )
    return {**headers, choose.choice(HEADERS): "".join(c for c in text if c.isprintable() and ord(c) < 256)}, body


def edit_entries(choose: Random, tree: Any) -> Any:
    """Of a listing, mostly a file's name, size or hash."""
    if not (isinstance(tree, list) and tree and isinstance(tree[0], dict)) or choose.random() < 0.3:
        return edit_json(choose, tree)
    i = choose.randrange(len(tree))
    if not isinstance(tree[i], dict) or not tree[i]:
        return edit_json(choose, tree)
    key = choose.choice([*tree[i], "path", "size"])
    value: Any = edit_json(choose, tree[i].get(key))
    if key == "path" and choose.random() < 0.5:
        value = choose.choice(
            ["../../escaped", "/tmp/escaped", "a/../../../b", "model\x1b[2J.gguf", "x" * 3000, "", "."]
        )
    return [*tree[:i], {**tree[i], key: value}, *tree[i + 1 :]]


def hub(e: Edits, s: Seeds) -> Case:
    """mimo-convert of a repository, a nightly target from one, or mimo-publish."""
    make = e.choice_of([conversion, conversion, worker, publication])
    how = e.choice_of(list(HOW)) if make is publication else ()
    liar = Liar(e, e.choice_of([*READ, *WRITE, *2 * HOW[how]] if make is publication else READ))
    s.hub.before = liar
    s.hub.written.clear()
    s.hub.collections = {f"someone/tiny-{0:024x}": Collection("Tiny")}
    s.hub.store.clear()
    s.hub.asked.clear()
    case = make(e, s)
    case.arguments = [*case.arguments, *how]
    case.past_header = lambda: liar.changed and liar.past_header
    return case


def conversion(e: Edits, s: Seeds) -> Case:
    models = e.choice_of([["someone/tok"], ["someone/tok@main"], ["someone/asr", "--tokenizer", str(s.path("tok"))]])
    more = e.choice_of([["--dry-run"], ["--no-check"], ["--no-check", "--stream"]])
    arguments = [*models, *more, "--outtype", "q8_0", "--out", "out", "--threads", "1"]
    return Case("mimo-convert", arguments, {}, False, outputs={"out/*.gguf": complete.gguf}, parts=True)


def worker(e: Edits, s: Seeds) -> Case:
    """What `mimo-check nightly` starts for a target."""
    from mimo_nightly.config import Target
    from mimo_nightly.regression import METRICS

    reference = str(s.path(e.choice_of(["reference.safetensors", "nowhere"])))  # without one, nothing is run
    target = Target(
        name="t", file=FOUND[0], beside={"tokenizer": FOUND[1]}, repo=REPO, revision="main", reference=reference,
        reference_tokenizer="", audio=[str(s.path("clip.wav"))], language="", timeout=60, threads=1, repack="off",
        products="auto", tolerance=dict.fromkeys(METRICS, 1.0), gates={}, compare_since="",
    )  # fmt: skip
    job = {"target": asdict(target), "cache": "cache", "folder": "."}
    outputs = {"t.found": complete.json_object, "t.json": complete.json_object, "t.html": complete.page}
    return Case(WORKER, [], {}, False, (0,), outputs, always=["cache/*"], stdin=json.dumps(job) + "\n")


def publication(e: Edits, s: Seeds) -> Case:
    there = e.choice_of([True, True, False])
    if there:
        s.hub.put("someone/new", {"README.md": b"# x\n", FOUND[1]: s.bytes(f"q8_0/{FOUND[1]}"), "other.gguf": b"GGUF"})
    files: dict[str, bytes | Path] = {f"d/{name}": s.path(f"q8_0/{name}") for name in FOUND}
    files["report.json"] = s.path("report.json")
    arguments = ["d", "--to", "someone/new", "--report", "report.json", "--yes"]
    return Case("mimo-publish", arguments, files, False, (0, 1, 2), always=["d/*"], environment={"HF_TOKEN": "token"})


def cache_note(e: Edits, s: Seeds) -> Case:
    """What a nightly run noted beside a file in its cache: one that says nothing is fetched again."""
    s.hub.before = lambda asked: None
    case = worker(e, s)
    note = {"etag": "0" * 64, "sha256": "0" * 64, "size": 1000, "mtime_ns": 1}
    data = dump(e.last, e.apply(edit_json, note))
    place = "cache/someone%2Fspeech@main/"
    case.files = {f"{place}{FOUND[0]}.verified": data, f"{place}{FOUND[0]}": b"GGUF" * 250}
    case.past_header = json_is_object(data)
    return case


TARGETS = {"hub": hub, "cache-note": cache_note}
