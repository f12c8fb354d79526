"""Targets about LoRA adapters: their config, pairs and blocks, beside a checkpoint that is as it should be."""

import json
from pathlib import Path

from mimo_families.qwen3_asr.system import TINY
from tests.fuzz import complete
from tests.fuzz.case import Case, Edits
from tests.fuzz.damage.formats import build_shard, edit_shard, json_is_object, parse_shard, shard_is_past_header
from tests.fuzz.damage.mutate import dump, edit_bytes, edit_json
from tests.fuzz.seeds import Seeds

ADAPTER = TINY / "noise"
CONFIG, WEIGHTS, BLOCKS = "adapter_config.json", "adapter_model.safetensors", "mega_lora_blocks.json"


def adapter(e: Edits, s: Seeds) -> Case:
    """One of its files is damaged, and it is planned, or merged."""
    name = e.choice_of([CONFIG, CONFIG, WEIGHTS, WEIGHTS, BLOCKS])
    before = (ADAPTER / name).read_bytes()
    if e.choose.random() < 0.06:
        data = e.apply(edit_bytes, before)
    elif name == WEIGHTS:
        data = build_shard(e.last, e.apply(edit_shard, parse_shard(before)))
    else:
        data = dump(e.last, e.apply(edit_json, json.loads(before)), bool(e.kept))
    past = shard_is_past_header(data) if name == WEIGHTS else json_is_object(data)
    files: dict[str, bytes | Path] = {f"lora/{other}": ADAPTER / other for other in (CONFIG, WEIGHTS, BLOCKS)}
    files[f"lora/{name}"] = data
    arguments = ["tiny-qwen3", "--adapter", "lora", "--outtype", e.choice_of(["q8_0", "f16"]), "--threads", "1"]
    if e.choose.random() < 0.5:
        return Case("mimo-convert", [*arguments, "--dry-run"], files, past)
    arguments += ["--no-check", "--out", "out"]
    return Case("mimo-convert", arguments, files, past, outputs={"out/*.gguf": complete.gguf}, parts=True)
