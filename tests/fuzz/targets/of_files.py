"""Targets about what was made: GGUF in every command, stored references, sounds, manifests, reports, nightly runs."""

import json
from collections.abc import Callable
from contextlib import suppress

from tests.fuzz import complete
from tests.fuzz.case import Case, Edits
from tests.fuzz.damage.formats import (
    Shard,
    build_shard,
    edit_history,
    edit_shard,
    edit_sound,
    history_is_past_header,
    json_is_object,
    parse_shard,
    shard_is_past_header,
    sound_is_past_header,
    toml,
    toml_is_past_header,
)
from tests.fuzz.damage.gguf_format import build, edit_file, is_past_header, parse
from tests.fuzz.damage.mutate import Random, dump, edit_bytes, edit_json, edit_lines, hostile_string
from tests.fuzz.seeds import FOUND, SOUNDS, Seeds
from tests.fuzz.targets.of_checkpoints import Files, is_text, json_file

LM, TOK = FOUND
RUN = ["--audio", "clip.wav", "--max-new-tokens", "2", "--threads", "1"]


def damaged_gguf(
    e: Edits, s: Seeds, kinds: tuple[str, ...] = ("q8_0", "q8_0", "q4_k", "f16")
) -> tuple[str, str, bytes, bool]:
    """One of the pair's files, by its usual name, damaged: its type, name and bytes, and whether it begins right."""
    kind = e.choose.choice(kinds)
    name = e.choice_of([LM, LM, TOK]).replace("q8_0", kind)
    seed = f"{kind}/{name}"
    if e.choose.random() < 0.05:
        data = e.apply(edit_bytes, s.bytes(seed))
    else:
        data = build(e.apply(edit_file, s.parse(seed, parse)))
    return kind, name, data, is_past_header(data)


def gguf_static(e: Edits, s: Seeds) -> Case:
    _, name, data, past = damaged_gguf(e, s)
    options, outputs = (complete.REPORT_OPTIONS, complete.REPORTS) if e.choose.random() < 0.4 else ([], {})
    return Case("mimo-check", [name, "--static", "--threads", "1", *options], {name: data}, past, (0, 1, 2), outputs)


def gguf_checkpoint(e: Edits, s: Seeds) -> Case:
    """Compared row by row with its checkpoint, or with another file."""
    kind, name, data, past = damaged_gguf(e, s)
    files: Files = {name: data}
    if e.choose.random() < 0.7:
        folder = "tok" if "tokenizer" in name else "asr"
        files |= s.under(folder)
        how = ["--checkpoint", folder]
    else:
        other = e.choose.choice(["q8_0", "f16"])
        seed = name.replace(kind, other)
        partner = (TOK if "asr" in name else LM).replace("q8_0", kind)
        files |= {"other/" + seed: s.path(f"{other}/{seed}"), "clip.wav": s.path("clip.wav")}
        files |= {"other/" + partner.replace(kind, other): s.path(f"{other}/{partner.replace(kind, other)}")}
        files |= {partner: s.path(f"{kind}/{partner}")} if "tokenizer" in partner else {}
        how = ["--against", "other/" + seed, *RUN[:4]]
    return Case("mimo-check", [name, *how, "--threads", "1"], files, past, (0, 1, 2))


def gguf_quantize(e: Edits, s: Seeds) -> Case:
    _, name, data, past = damaged_gguf(e, s)
    options = [
        "--threads",
        "1",
        *e.choice_of(
            [[], ["--outtype", "q8_0"], ["--outtype", "q4_k", "--allow-requantize"], ["--fuse-qkv"], ["--split-qkv"]]
        ),
    ]
    options += e.choice_of([[], [], ["--dry-run"], ["--asr-only"]])
    return Case(
        "mimo-quantize",
        [name, "out.gguf", *options],
        {name: data},
        past,
        outputs={"out.gguf": complete.gguf},
        parts=True,
    )


def gguf_run(e: Edits, s: Seeds) -> Case:
    """Run on a short sound, alone or against the stored reference."""
    kind, name, data, past = damaged_gguf(e, s, ("q8_0", "q8_0", "q4_k"))
    partner = (TOK if "asr" in name else LM).replace("q8_0", kind)
    files: Files = {name: data, partner: s.path(f"{kind}/{partner}"), "clip.wav": s.path("clip.wav")}
    options = [*RUN]
    if e.choose.random() < 0.5:
        files["r.safetensors"] = s.path("reference.safetensors")
        options += ["--reference", "r.safetensors"]
    options += e.choice_of(
        [[], ["--repack", "on"], ["--products", "ggml"], ["--language", "chinese"]]
        if "--reference" not in options
        else [[], ["--repack", "on"], ["--products", "ggml"]]
    )
    outputs = complete.REPORTS if e.choose.random() < 0.3 else {}
    options += complete.REPORT_OPTIONS if outputs else []
    first = name if e.choose.random() < 0.3 else LM.replace("q8_0", kind)
    return Case("mimo-check", [first, *options], files, past, (0, 1, 2), outputs)


def gguf_publish(e: Edits, s: Seeds) -> Case:
    """Checked and described on a card, beside a file that is right."""
    _, name, data, past = damaged_gguf(e, s, ("q8_0",))
    partner = TOK if "asr" in name else LM
    files: Files = {f"d/{name}": data, f"d/{partner}": s.path(f"q8_0/{partner}"), "clip.wav": s.path("clip.wav")}
    files["r.safetensors"] = s.path("reference.safetensors")
    arguments = ["d", "--to", "someone/speech", "--dry-run", "--even-if-failed", "--reference", "r.safetensors"]
    arguments += ["--audio", "clip.wav", "--threads", "1"]
    return Case("mimo-publish", arguments, files, past, (0, 1, 2), PUBLISHED, always=["d/*"])


PUBLISHED: dict[str, Callable[[bytes], bool]] = {}

# ── the stored reference ─────────────────────────────────────────────────────────────────────────────────────────


def edit_reference(choose: Random, shard: Shard) -> Shard:
    """Its metadata, whose texts are JSON; ids and logits; or what any safetensors file may suffer."""
    metadata = shard.header.get("__metadata__") if isinstance(shard.header, dict) else None
    what = choose.randrange(10)
    if what < 4 and isinstance(metadata, dict) and metadata:
        key = choose.choice([*metadata, "origin", "stages"])
        text = metadata.get(key)
        changed = hostile_string(choose)
        if key in ("origin", "stages") and isinstance(text, str) and choose.random() < 0.9:
            with suppress(ValueError, RecursionError):
                changed = dump(choose, edit_json(choose, json.loads(text)), hazards=False).decode("utf-8", "replace")
        return Shard({**shard.header, "__metadata__": {**metadata, str(key): changed}}, shard.data)
    if what < 7 and isinstance(shard.header, dict):
        return edit_stage(choose, shard)
    return edit_shard(choose, shard)


def edit_stage(choose: Random, shard: Shard) -> Shard:
    """Numbers of one stage: ids beyond the vocabulary, logits that are no numbers; or another shape of as many."""
    names = [name for name, entry in shard.header.items() if name != "__metadata__" and isinstance(entry, dict)]
    if not names:
        return shard
    name = choose.choice([*names, *(n for n in names if n.endswith(("ids", "codes")))])
    entry = shard.header[name]
    offsets = entry.get("data_offsets")
    if not (
        isinstance(offsets, list)
        and len(offsets) == 2
        and all(type(n) is int and 0 <= n <= len(shard.data) for n in offsets)
    ):
        return shard
    begin, end = offsets
    if choose.random() < 0.3:
        n = max(0, end - begin) // 4
        shape = choose.choice([[n], [n, 1], [1, n], [1, 1, n], [n // 2, 2], []])
        return Shard({**shard.header, name: {**entry, "shape": shape}}, shard.data)
    at = begin + 4 * choose.randrange(max(1, (end - begin) // 4))
    numbers = [
        b"\xff\xff\xff\xff",
        b"\xff\xff\xff\x7f",
        b"\0\0\0\x80",
        b"\0\0\xc0\x7f",
        b"\0\0\x80\x7f",
        b"\x91\1\0\0",
        b"\xff\xff\x7f\x7f",
    ]
    patch = choose.choice(numbers) * choose.choice([1, 1, 8, max(1, (end - at) // 4)])
    patch = patch[: max(0, end - at)]
    return Shard(shard.header, shard.data[:at] + patch + shard.data[at + len(patch) :])


def reference(e: Edits, s: Seeds) -> Case:
    shard = e.apply(edit_reference, s.parse("reference.safetensors", parse_shard))
    data = build_shard(e.last, shard)
    files: Files = {"r.safetensors": data, **{n: s.path(f"q8_0/{n}") for n in FOUND}, "clip.wav": s.path("clip.wav")}
    name = e.choice_of([LM, LM, LM, TOK])
    options = [*RUN, "--reference", "r.safetensors", *complete.REPORT_OPTIONS]
    return Case("mimo-check", [name, *options], files, shard_is_past_header(data), (0, 1, 2), complete.REPORTS)


# ── sounds and manifests ─────────────────────────────────────────────────────────────────────────────────────────


def audio(e: Edits, s: Seeds) -> Case:
    """A damaged sound, mostly refused or found not to be the reference's; now and then it is run."""
    kind = e.choice_of(["wav", "wav", "wav", *SOUNDS])
    data = e.apply(edit_sound, s.bytes(f"clip.{kind}"))
    names = [f"a.{kind}"]
    if e.kept and e.choose.random() < 0.2:
        names = [f"a.{e.choose.choice(['raw', 'wav', 'flac', 'mp3', 'RAW', 'sd2', 'mat', 'x', 'ogg', 'htk', 'xi'])}"]
    if e.kept and e.choose.random() < 0.15:
        names = [
            e.choose.choice(
                ["\udcff.wav", "a\x1b[2J.wav", "new\nline.wav", "-.wav", "é" * 100 + ".wav", ".wav", " .wav"]
            )
        ]
    where = e.choice_of(["file", "file", "folder"])
    prefix = "sounds/" if where == "folder" else ""
    files: Files = {prefix + name: data for name in names} | {n: s.path(f"q8_0/{n}") for n in FOUND}
    sound = "sounds" if where == "folder" else f"./{names[0]}"
    arguments = [LM, "--audio", sound, "--threads", "1", "--max-new-tokens", "1"]
    if e.choose.random() < 0.7:
        arguments += ["--reference", "r.safetensors"]
        files["r.safetensors"] = s.path("reference.safetensors")
    return Case("mimo-check", arguments, files, sound_is_past_header(data), (0, 1, 2))


def edit_manifest(choose: Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    i = choose.randrange(len(lines))
    if choose.random() < 0.3:
        return edit_lines(choose, data)
    with suppress(ValueError, RecursionError):
        lines[i] = dump(choose, edit_json(choose, json.loads(lines[i] or b"{}")))
        return b"\n".join(lines)
    return edit_lines(choose, data)


MOST_CLIPS = 40  # of a manifest: thousands are as much more work, and no hang


def manifest(e: Edits, s: Seeds) -> Case:
    with_reference = e.choice_of([True, False])  # which is of one sound
    second = b'{"audio": "clip.wav"}\n' if with_reference else b'{"audio": "clip.flac"}\n'
    data = e.apply(edit_manifest, b'{"audio": "clip.wav", "text": "what is said"}\n' + second)
    data = b"\n".join(data.split(b"\n")[:MOST_CLIPS])
    files: Files = {"m.jsonl": data, **{n: s.path(f"q8_0/{n}") for n in FOUND}}
    files |= {n: s.path(n) for n in ("clip.wav", "clip.flac")}
    arguments = [LM, "--audio", "m.jsonl", "--threads", "1", "--max-new-tokens", "1"]
    if with_reference:
        arguments += ["--reference", "r.safetensors"]
        files["r.safetensors"] = s.path("reference.safetensors")
    first = next((line for line in data.splitlines() if line.strip()), b"")
    return Case("mimo-check", arguments, files, is_text(data) and json_is_object(first), (0, 1, 2))


# ── the report ───────────────────────────────────────────────────────────────────────────────────────────────────


def report(e: Edits, s: Seeds) -> Case:
    """What --json wrote, or the card that is there already, of files that are to be published."""
    files: Files = {f"d/{n}": s.path(f"q8_0/{n}") for n in FOUND}
    arguments = ["d", "--to", "someone/speech", "--dry-run", "--report", "report.json"]
    if e.choose.random() < 0.15:
        card = b"---\nlicense: mit\n---\n# x\n\n<!-- your text: begin -->\nmine\n<!-- your text: end -->\n"
        files |= {"d/README.md": e.apply(edit_lines, card), "report.json": s.path("report.json")}
        past = is_text(files["d/README.md"] if isinstance(files["d/README.md"], bytes) else b"")
    else:
        data, is_object = json_file(e, s, "report.json")
        past = is_object and json.loads(data).get("schema") == s.json("report.json")["schema"]
        files["report.json"] = data
    if e.choose.random() < 0.4:
        arguments += ["--html", "page.html", "--junit", "page.xml", "--json", "page.json", "--even-if-failed"]
    outputs = {"page.html": complete.page, "page.xml": complete.xml, "page.json": complete.json_object}
    return Case("mimo-publish", arguments, files, past, (0, 1, 2), outputs, always=["d/*"])


# ── nightly runs ─────────────────────────────────────────────────────────────────────────────────────────────────

CONFIG = {
    "history": "history.sqlite", "pages": "pages", "cache": "cache", "timeout": "45 min", "threads": 2, "repack": "off",
    "tolerance": {"cos_mean": 0.002, "rel_rmse": 0.02}, "keep": "90 d",
    "notify": {"command": ["true", "of nightly runs"], "transcripts": True},
    "target": [
        {
            "name": "good", "file": "a.gguf", "tokenizer": "b.gguf", "reference": "r.safetensors",
            "audio": ["a.wav", "b.wav"], "language": "english",
            "gates": {"layer_00": {"cos_mean": 0.9}}, "compare_since": "2026-01-01",
        },
        {"name": "away", "repo": "someone/speech", "revision": "main", "file": "a.gguf", "reference": "r.safetensors"},
        {"name": "torch", "file": "a.gguf", "tokenizer": "b.gguf", "checkpoint": "tiny", "checkpoint_tokenizer": "x"},
    ],
}  # fmt: skip
PAGES = ["pages/*", "history.sqlite*", "cache/*", "*.lock", ".*"]


def nightly_toml(e: Edits, s: Seeds) -> Case:
    """The config of nightly runs, read by `history`, and by `nightly` up to a target that is not there."""
    text = toml(e.apply(edit_json, CONFIG)).replace('"2026-01-01"', "2026-01-01").encode("utf-8", "surrogatepass")
    if e.choose.random() < 0.15:
        text = e.apply(edit_lines, text)
    files: Files = {"nightly.toml": text, "history.sqlite": s.path("history.sqlite")}
    arguments = e.choice_of([["history", "nightly.toml"], ["history", "nightly.toml", "--target", "good"]])
    if e.kept and e.choose.random() < 0.3:
        arguments = ["nightly", "nightly.toml", "--target", "nobody"]
    return Case("mimo-check", arguments, files, toml_is_past_header(text), (0, 1, 2), always=["history.sqlite"])


def history(e: Edits, s: Seeds) -> Case:
    """The history of nightly runs, shown; and gone on with by a run of which all targets are done."""
    path = s.path("damaged.sqlite")
    path.write_bytes(s.bytes("history.sqlite"))
    for number in e.kept:
        edit_history(e.of(number), path)
    files: Files = {"history.sqlite": path.read_bytes(), "nightly.toml": s.config.encode()}
    past = history_is_past_header(path)
    for beside in path.parent.glob("damaged.sqlite-*"):
        beside.unlink()
    if e.choose.random() < 0.3:
        options = ["--junit", "j.xml", "--summary", "s.md"]
        outputs = {"j.xml": complete.xml, "s.md": complete.text}
        return Case("mimo-check", ["nightly", "nightly.toml", *options], files, past, (0, 1, 2), outputs, always=PAGES)
    arguments = e.choice_of(
        [
            ["nightly.toml"],
            ["history.sqlite"],
            ["nightly.toml", "--target", "good"],
            ["history.sqlite", "--target", "fallen"],
        ]
    )
    return Case("mimo-check", ["history", *arguments], files, past, (0, 1, 2), always=["history.sqlite*"])
