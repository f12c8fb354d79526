"""Reports as docs/json.md describes them, of the real model's size: made up, but in shape and size what a run gives."""

import math
from pathlib import Path
from typing import Any

from runtime_check import bundled

TOKENIZER_STAGES = ("tok_mel", "tok_conv1", "tok_conv2", "tok_xfmr", "tok_pool")
PREFILL_STAGES = ("prefill_audio_features", "prefill_text_embeds", "prefill_inputs_embeds")
LAST_STAGES = ("prefill_last_hidden", "prefill_text_logits_step0")
PIECES = (
    " And", " so", ",", " my", " fellow", " Americans", ",", " ask", " not", " what", " your", " country", " can",
    " do", " for", " you", ".", " Ask", " what", " you", " can", " do", " for", " your", " country", ".", "<|im_end|>",
)  # fmt: skip


def wave(i: float) -> float:
    """From 0 to 1, never the same twice."""
    return (math.sin(i * 12.9898) * 43758.5453) % 1


def stage(name: str, noise: float, gate: float, passed: bool = True) -> dict[str, Any]:
    return {
        "name": name, "shape": [94, 4096], "compared": 94, "cos_mean": 1 - noise, "cos_min": 1 - 4 * noise,
        "rel_rmse": math.sqrt(2 * noise), "gate_mean": gate, "gate_min": gate - 0.1, "passed": passed,
    }  # fmt: skip


def file(name: str, size: int) -> dict[str, Any]:
    is_lm = "asr" in name
    repo = "XiaomiMiMo/MiMo-V2.5-ASR" if is_lm else "XiaomiMiMo/MiMo-Audio-Tokenizer"
    shards = [f"model-0000{i}-of-00004.safetensors" for i in range(1, 5)] if is_lm else ["model.safetensors"]
    return {
        "file": f"/models/{name}", "sha256": "0123456789abcdef" * 4, "bytes": size,
        "architecture": "mimo_asr" if is_lm else "mimo_tokenizer", "type": "q4_k", "outtype": "q4_k", "recipe": [],
        "layout": "fused" if is_lm else "separate", "asr_only": False, "bits_per_weight": 4.51,
        "tensor_types": {"q4_k": 401, "f32": 243, "q6_k": 2}, "quantizer": "simd",
        "provenance": {
            "name": repo.split("/")[1], "repo": repo, "revision": "0123456789" * 4,
            "shards": dict.fromkeys(shards, "fedcba9876543210" * 4), "version": "0.5.0", "quantized_from": None,
            "intermediates": None,
        },
        "about": {
            "license": "mit", "languages": ["en", "zh"] if is_lm else None,
            "tags": ["automatic-speech-recognition", "audio"] if is_lm else ["audio", "audio-tokenizer"],
        },
    }  # fmt: skip


def step(i: int, text: str) -> dict[str, Any]:
    kl = 10 ** (-7 + 5 * wave(i + 0.5))
    return {
        "id": 1000 + i, "text": text, "top1": 1000 + i, "reference_top1": 1000 + i, "kl": kl, "rank": 1,
        "probability": 0.98, "reference_probability": 0.985, "cached_kl": 1e-9,
    }  # fmt: skip


def steps() -> dict[str, Any]:
    every = [step(i, text) for i, text in enumerate(PIECES)]
    every[6] |= {"top1": 7, "rank": 2, "probability": 0.31, "kl": 0.41}
    kls = [one["kl"] for one in every]
    return {
        "tokens": len(every), "top1_agreement": 26 / 27, "gate_top1": 0.85, "kl_mean": sum(kls) / len(kls),
        "kl_max": max(kls), "gate_kl_mean": 0.2, "passed": True,
        "cached": {"rel_rmse": 1e-6, "gate_rel_rmse": 0.003, "kl_max": 1e-9, "passed": True}, "steps": every,
    }  # fmt: skip


def check(clip: str = "/sounds/jfk.wav", n_layers: int = 36) -> dict[str, Any]:
    stages = [stage(name, 1e-7 * (1 + i), 0.999) for i, name in enumerate(TOKENIZER_STAGES[:3])]
    stages += [stage(name, 0.0015, 0.982) for name in TOKENIZER_STAGES[3:]]
    stages += [stage(name, 0.001 + 0.001 * wave(i), 0.98) for i, name in enumerate(PREFILL_STAGES)]
    stages += [stage(f"layer_{i:02}", 0.001 * 1.06**i * (1 + wave(i)), 0.929) for i in range(n_layers)]
    stages += [stage(name, 0.009, 0.95) for name in LAST_STAGES]
    return {
        "passed": True, "reasons": [], "speech_lm": file("mimo-asr-q4_k.gguf", 4_523_915_264),
        "audio_tokenizer": file("mimo-tokenizer-q4_k.gguf", 402_653_184),
        "audio": {"file": clip, "sha256": "ab" * 32, "seconds": 11.0, "rate": 16000, "language": "english"},
        "reference": {
            "checkpoints": ["XiaomiMiMo/MiMo-V2.5-ASR", "XiaomiMiMo/MiMo-Audio-Tokenizer"], "torch": "2.13.0",
            "dtype": "f32", "transcript": bundled.JFK_TEXT,
        },
        "stages": stages, "codes": {"agreement": 0.8123, "gate": 0.425, "passed": True}, "vocabulary_equal": True,
        "prompt_equal": True, "first_token": {"ours": 3036, "reference": 3036}, "steps": steps(),
        "transcript": bundled.JFK_TEXT, "greedy_ids": [1, 2], "expected_text": bundled.JFK_TEXT, "word_error_rate": 0.0,
        "timings": {
            "load_s": 2.1, "repack_s": 3.4, "tokenize_s": 4.2, "prefill_s": 12.5, "ms_per_token": 310.0,
            "proof_s": 18.25,
        },
        "memory": {"mapped": 4_926_568_448, "repacked": 0, "working": 612_000_000},
    }  # fmt: skip


EXPECTED = {"q4_k": 0.0712, "q6_k": 0.0166, "q8_0": 0.0055, "f16": 1.7e-4, "f32": 0.0}


def tensor(i: int) -> dict[str, Any]:
    kinds = "attn.qkv", "attn.o", "ffn.gate", "ffn.up", "ffn.down", "attn_norm", "ffn_norm"
    kind = kinds[i % len(kinds)]
    type = "f32" if "norm" in kind else "q6_k" if kind == "ffn.down" and i % 4 == 0 else "q4_k"
    expected = EXPECTED[type] * (0.95 + 0.1 * wave(i))
    return {
        "name": f"model.layers.{i // len(kinds)}.{kind}.weight", "type": type, "rows": 4096, "rel_rmse": expected,
        "expected_rel_rmse": expected, "cosine": 1 - expected**2 / 2, "equal_rows": 4096, "worst_row": 17 * i % 4096,
        "worst_rel_rmse": expected * 1.3, "worst_expected": expected * 1.3, "problems": [],
    }  # fmt: skip


def tensors(n: int = 600) -> dict[str, Any]:
    return {
        "file": "/models/mimo-asr-q4_k.gguf", "source": "XiaomiMiMo/MiMo-V2.5-ASR", "lossless": True, "passed": True,
        "judged_by": "bytes", "judged_why": "a changed byte of any weight fails",
        "seconds": 61.5, "bytes_read": 20_573_000_000, "problems": [], "tensors": [tensor(i) for i in range(n)],
    }  # fmt: skip


RULES = ("structure", "architecture", "metadata", "tensors", "shapes", "tokens", "merges", "types", "numbers", "scales")


def static() -> dict[str, Any]:
    rules = [{"name": name, "checked": 37 * (i + 1) ** 3, "problems": []} for i, name in enumerate(RULES)]
    return {
        "file": "/models/mimo-asr-q4_k.gguf", "bytes": 4_523_915_264, "seconds": 9.8, "passed": True, "rules": rules,
    }  # fmt: skip


def conversion() -> dict[str, Any]:
    return {
        "file": "mimo-asr-q4_k.gguf", "type": "q4_k", "layout": "fused", "bytes": 4_523_915_264,
        "weights": 8_019_000_000, "bits_per_weight": 4.51, "tensor_types": {"q4_k": 401, "f32": 243},
        "quantizer": "simd",
        "fallbacks": {"llm.blk.0.attn.q.weight": "rows of 32 are not a multiple of 256: q4_0"},
        "kept_f32": ["model.layers.35.ffn.down.weight"], "left_out": {"encoder.rope.inv_freq": "is computed"},
    }  # fmt: skip


def report() -> dict[str, Any]:
    """A report of everything, all of which passed."""
    return {
        "schema": "mimo-check report 1", "command": "mimo-convert", "passed": True,
        "versions": {"python": "3.11.7", "mimo-convert": "0.5.0", "numpy": "2.4.6", "torch": "2.13.0"},
        "conversions": [conversion()], "static": [static()], "tensors": [tensors()], "checks": [check()], "words": None,
        "memory": {"peak_rss": 6_123_000_000}, "publication": None,
    }  # fmt: skip


def published_report() -> dict[str, Any]:
    """One of two pairs, and where they are to be published."""
    whole = report()
    other = check()
    for role, name, size in (("speech_lm", "mimo-asr-q8_0.gguf", 8_530_000_000),):
        other[role] |= {
            "file": f"/models/{name}",
            "bytes": size,
            "type": "q8_0",
            "outtype": "q8_0",
            "bits_per_weight": 8.5,
        }
        other[role]["sha256"] = "89abcdef01234567" * 4
    other["memory"] = {"mapped": 8_932_653_184, "repacked": 0, "working": 612_000_000}
    whole["checks"].append(other)
    files = {Path(f["file"]).name: f for c in whole["checks"] for f in (c["speech_lm"], c["audio_tokenizer"])}
    listed = [{"file": name, "sha256": f["sha256"], "bytes": f["bytes"]} for name, f in files.items()]
    whole["publication"] = {
        "repo": "someone/MiMo-V2.5-ASR-GGUF",
        "files": listed,
        "even_if_failed": False,
        "base_model": None,
    }
    return whole | {"command": "mimo-publish"}


def failed_report() -> dict[str, Any]:
    """One in which something of every kind failed: two clips, of which the second was heard wrongly."""
    broken = check("/sounds/talk.flac")
    for one in broken["stages"]:
        if one["name"] in ("layer_20", "layer_21", "prefill_last_hidden"):
            one |= {"cos_mean": 0.61, "cos_min": -0.2, "rel_rmse": 0.93, "passed": False}
    broken |= {
        "passed": False, "vocabulary_equal": False, "first_token": {"ours": 11, "reference": 3036},
        "transcript": "And so my fellow American ask not what you're country can do for you for you. Ask what can do",
        "word_error_rate": 8 / 22,
        "reasons": [
            "layer_20: cos_mean 0.610000 is below 0.929000 by 0.319000, cos_min -0.200000 is below 0.829 by 1.029",
            "layer_21: cos_mean 0.610000 is below 0.929000 by 0.319000",
            "prefill_last_hidden: cos_mean 0.610000 is below 0.950000 by 0.340000",
            "vocabulary: its tokens or merges are not the reference's",
            "prefill_text_logits_step0: the first token is 11, the reference's is 3036",
            "answer_logits: KL divergence 0.500000 nats a step is above 0.2; the worst is 8.000000 at step 3",
        ],
    }  # fmt: skip
    broken["steps"] |= {"kl_mean": 0.5, "kl_max": 8.0, "passed": False}
    broken["steps"]["steps"][3] |= {"kl": 8.0, "top1": 5, "rank": 411, "probability": 1e-5}

    compared = tensors()
    compared |= {"passed": False, "problems": ["tensor model.norm.weight of the source is missing"]}
    for i in (30, 31, 32):
        problems = [f"row {row} has a relative RMSE of 0.31, 0.07 is expected" for row in range(9)]
        compared["tensors"][i] |= {"rel_rmse": 0.31, "cosine": 0.95, "equal_rows": 4000, "problems": problems}

    examined = static()
    examined["passed"] = False
    examined["rules"][6]["problems"] = ["the merge '# #' is missing", "… and 95 more"]
    words = {"clips": 2, "words": 44, "errors": 8, "word_error_rate": 8 / 44}
    parts = {"static": [examined], "tensors": [compared], "checks": [check(), broken], "words": words}
    return report() | {"command": "mimo-check", "passed": False, "conversions": []} | parts
