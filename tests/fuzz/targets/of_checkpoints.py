"""Targets about checkpoints: safetensors, index, config, vocabulary, the Hub's notes; recipes and the journal."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.fuzz import complete
from tests.fuzz.case import Case, Edits
from tests.fuzz.damage.formats import build_shard, edit_shard, json_is_object, parse_shard, shard_is_past_header
from tests.fuzz.damage.mutate import RULES, Random, dump, edit_bytes, edit_json, edit_lines, hostile_string
from tests.fuzz.seeds import FOUND, Seeds

Files = dict[str, bytes | Path]
OUTTYPES = ["f16", "q8_0", "q4_k", "q2_k", "f32", "bf16", "iq4_xs"]


def conversion(e: Edits, files: Files, past_header: bool, *, alone: bool = False) -> Case:
    """mimo-convert without a check, or mimo-check --checkpoint, of checkpoints in `asr` and `tok`."""
    choose = e.choose
    more = ["--outtype", choose.choice(OUTTYPES), "--threads", choose.choice("12")]
    more += choose.choice([[], ["--fuse-qkv"], ["--asr-only"], ["--outtype", "q6_k"]])
    models = ["tok"] if alone else ["asr", "--tokenizer", "tok"]
    if choose.random() < 0.5:
        reports = dict(complete.REPORTS) if choose.random() < 0.3 else {}
        options = complete.REPORT_OPTIONS if reports else []
        return Case("mimo-convert", [*models, *more, *options, "--dry-run"], files, past_header, outputs=reports)
    outputs = {"out/*.gguf": complete.gguf}
    return Case(
        "mimo-convert", [*models, *more, "--no-check", "--out", "out"], files, past_header, outputs=outputs, parts=True
    )


def comparison(e: Edits, s: Seeds, files: Files, past_header: bool, folder: str) -> Case:
    """mimo-check --checkpoint: the file was made from what the checkpoint was before."""
    name = FOUND[folder == "tok"]
    outtype = e.choose.choice(["q8_0", "q8_0", "q4_k"])
    file = f"mimo-{'tokenizer' if folder == 'tok' else 'asr'}-{outtype}.gguf"
    files = {**files, name: s.path(f"{outtype}/{file}")}
    arguments = [name, "--checkpoint", folder, "--threads", "1", *complete.REPORT_OPTIONS]
    return Case("mimo-check", arguments, files, past_header, (0, 1, 2), complete.REPORTS)


def checkpoint_case(
    e: Edits, s: Seeds, damaged: Mapping[str, bytes], past_header: bool, without: tuple[str, ...] = ()
) -> Case:
    """A command on the checkpoints, of which `damaged` files, such as asr/config.json, are others."""
    folder = next(iter(damaged)).split("/")[0]
    alone = folder == "tok" and e.choose.random() < 0.7
    files: Files = dict(s.under("tok")) if alone else {**s.under("asr", without=without), **s.under("tok")}
    files |= damaged
    if e.choose.random() < 0.25:
        return comparison(e, s, files, past_header, folder)
    return conversion(e, files, past_header, alone=alone)


def safetensors(e: Edits, s: Seeds) -> Case:
    shards = ["asr/model-00001-of-00002.safetensors", "asr/model-00002-of-00002.safetensors", "tok/model.safetensors"]
    name = e.choose.choice([*shards, shards[-1]])
    if e.choose.random() < 0.04:  # not even the length need be right
        data = e.apply(edit_bytes, s.bytes(name))
    else:
        data = build_shard(e.last, e.apply(edit_shard, s.parse(name, parse_shard)))
    return checkpoint_case(e, s, {name: data}, shard_is_past_header(data))


def json_file(e: Edits, s: Seeds, name: str, edit: Callable[[Random, Any], Any] = edit_json) -> tuple[bytes, bool]:
    """A JSON file with a changed tree, now and then with damaged bytes; and whether it is a JSON object still."""
    data = (
        e.apply(edit_bytes, s.bytes(name))
        if e.choose.random() < 0.06
        else dump(e.last, e.apply(edit, s.json(name)), bool(e.kept))
    )
    return data, json_is_object(data)


def index(e: Edits, s: Seeds) -> Case:
    name = "asr/model.safetensors.index.json"

    def edit(choose: Random, tree: Any) -> Any:
        if choose.random() < 0.3 or not isinstance(tree, dict) or not isinstance(tree.get("weight_map"), dict):
            return edit_json(choose, tree)
        names = {**tree["weight_map"]}
        if names:
            shards = [
                *set(map(str, names.values())),
                "../x.safetensors",
                "",
                ".",
                "model.safetensors",
                hostile_string(choose),
            ]
            names[choose.choice([*names])] = choose.choice(shards)
        return {**tree, "weight_map": names}

    data, past = json_file(e, s, name, edit)
    return checkpoint_case(e, s, {name: data}, past)


def config(e: Edits, s: Seeds) -> Case:
    name = e.choose.choice(["asr/config.json", "tok/config.json"])
    data, past = json_file(e, s, name)
    return checkpoint_case(e, s, {name: data}, past)


VOCABULARY = [
    "tokenizer.json",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "added_tokens.json",
]


def edit_tokenizer(choose: Random, tree: Any) -> Any:
    """Mostly what is read: model, vocab, merges, added tokens."""
    if not isinstance(tree, dict) or choose.random() < 0.1:
        return edit_json(choose, tree)
    key = choose.choice(["model", "model", "added_tokens"] if "model" in tree else [*tree] or [""])
    if key not in tree:
        return edit_json(choose, tree)
    if key != "model" or not isinstance(tree[key], dict) or choose.random() < 0.1:
        return {**tree, key: edit_json(choose, tree[key])}
    inner = choose.choice(["vocab", "merges"])
    return {**tree, key: {**tree[key], inner: edit_json(choose, tree[key].get(inner))}}


def vocabulary(e: Edits, s: Seeds) -> Case:
    file = e.choose.choice(VOCABULARY)
    name, without = f"asr/{file}", () if file == "tokenizer.json" else ("tokenizer.json",)
    if file == "merges.txt":
        data = e.apply(edit_lines, s.bytes(name))
        return checkpoint_case(e, s, {name: data}, is_text(data), without)
    if file == "added_tokens.json":  # read where tokenizer_config.json has none
        decoder = s.json("asr/tokenizer_config.json")["added_tokens_decoder"]
        tree = e.apply(edit_json, {token["content"]: int(id) for id, token in decoder.items()})
        damaged = {name: dump(e.last, tree), "asr/tokenizer_config.json": b'{"eos_token": "<|endoftext|>"}'}
        return checkpoint_case(e, s, damaged, json_is_object(damaged[name]), without)
    data, past = json_file(e, s, name, edit_tokenizer if file == "tokenizer.json" else edit_json)
    return checkpoint_case(e, s, {name: data}, past, without)


def is_text(data: bytes) -> bool:
    try:
        return data.decode("utf-8-sig") is not None
    except UnicodeDecodeError:
        return False


NOTE = f"{'c' * 40}\n{'d' * 64}\n4000000000.0\n".encode()


def edit_note(choose: Random, data: bytes) -> bytes:
    """One of three lines, mostly in place of another."""
    lines = data.split(b"\n")
    if choose.random() < 0.3 or len(lines) < 4:
        return edit_lines(choose, data)
    words = [
        b"c" * 40,
        b"d" * 40,
        b"0",
        b"nan",
        b"inf",
        b"-1",
        b"1e999",
        b"\xd9\xa1",
        b"x",
        b"C" * 64,
        b"1_0",
        b"9" * 5000,
    ]
    lines[choose.randrange(3)] = choose.choice(words)
    return b"\n".join(lines)


def hub_note(e: Edits, s: Seeds) -> Case:
    """What `hf download --local-dir` noted beside a shard; one that says nothing is no error."""
    data = e.apply(edit_note, NOTE)
    files: Files = {**s.under("tok"), "tok/.cache/huggingface/download/model.safetensors.metadata": data}
    return conversion(e, files, len(data.split()) == 3 and is_text(data), alone=True)


def edit_recipe(choose: Random, data: bytes) -> bytes:
    if choose.random() < 0.4:
        return edit_lines(choose, data)
    lines = data.split(b"\n")
    lines.insert(choose.randrange(len(lines)), choose.choice(RULES).encode("utf-8", "surrogatepass"))
    return b"\n".join(lines)


def recipe(e: Edits, s: Seeds) -> Case:
    """A file of rules, for mimo-convert and mimo-quantize; or one of them as an option."""
    data = e.apply(edit_recipe, b"# rules\nffn=q5_k\n\nattn.q=f16\n")
    files: Files = {"rules.txt": data}
    arguments = ["--recipe", "rules.txt"]
    if e.kept and e.choose.random() < 0.2:
        arguments = ["--tensor-type", e.choose.choice(RULES[:10] + RULES[12:])]
    if e.choose.random() < 0.5:
        files |= s.under("tok")
        found = conversion(e, {**files, **s.under("asr")}, is_text(data))
        found.arguments = [*found.arguments, *arguments]
        return found
    files["in.gguf"] = s.path(f"f16/{FOUND[0].replace('q8_0', 'f16')}")
    arguments = ["in.gguf", "out.gguf", *arguments, "--outtype", "q8_0", "--threads", "1"]
    arguments += ["--dry-run"] if e.choose.random() < 0.7 else []
    return Case("mimo-quantize", arguments, files, is_text(data), outputs={"out.gguf": complete.gguf}, parts=True)


def journal(e: Edits, s: Seeds) -> Case:
    """NAME.part and its journal, as a conversion that was killed leaves them; the same conversion finds them."""
    name = "mimo-tokenizer-q8_0.gguf"
    part, lines = s.bytes(f"interrupted/{name}.part"), s.bytes(f"interrupted/{name}.part.journal")
    first, *others = lines.splitlines()

    def edit(choose: Random, data: bytes) -> bytes:
        if choose.random() < 0.4:
            return edit_lines(choose, data)
        records = data.split(b"\n")
        i = choose.randrange(len(records))
        try:
            tree = json.loads(records[i])
        except (ValueError, RecursionError):
            return edit_bytes(choose, data)
        records[i] = dump(choose, edit_json(choose, tree), hazards=False)
        return b"\n".join(records)

    damaged = e.apply(edit, b"\n".join([first, *others, b""]))
    if e.choose.random() < 0.1:
        part = e.apply(lambda choose, data: choose.choice([data[: len(data) // 2], data + b"\0", b""]), part)
    files: Files = {f"out/{name}.part": part, f"out/{name}.part.journal": damaged}
    # the checkpoint itself, not a copy: the journal knows the times of its files
    arguments = [str(s.path("tok")), "--outtype", "q8_0", "--no-check", "--out", "out", "--threads", "1"]
    past, outputs = json_is_object(damaged.split(b"\n")[0]), {"out/*.gguf": complete.gguf}
    return Case("mimo-convert", arguments, files, past, outputs=outputs, parts=True)
