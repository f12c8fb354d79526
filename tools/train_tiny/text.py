"""The text tokenizer: merges of the sentences and of written text."""

import sys
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from mimo_families.mimo_audio import layout as mimo_asr
from runtime_check.text.tokenizer import configure

from .configs import ASR_CONFIG
from .files import write_json

SENTENCES = Path(__file__).parents[1] / "tiny_sentences.txt"
WRITTEN_TEXT = SENTENCES.with_name("tiny_text.txt")  # only for the merges: headings, C, Python, Chinese
TEXT = mimo_asr.FAMILY.text
assert TEXT is not None
UNUSED_IDS = 7
PLAIN_ADDED_TOKENS = ["<tool_call>", "</tool_call>"]
PLAIN_ADDED_TOKENS += [f"<|{name}|>" for name in ("fim_prefix", "fim_middle", "fim_suffix", "fim_pad")]
PLAIN_ADDED_TOKENS += ["<|repo_name|>", "<|file_sep|>"]
ADDED_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"]
ADDED_TOKENS += ["<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>"]
ADDED_TOKENS += ["<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", *PLAIN_ADDED_TOKENS, "<|sosp|>", "<|eosp|>"]
ADDED_TOKENS += ["<|empty|>", "<|Human|>", "<|SpeechLM|>", "<|sostm|>", "<|eostm|>", "<|eot|>"]


def train_text_tokenizer(lines: list[str]) -> Tokenizer:
    """Byte-level BPE as Qwen2's: 256 bytes and the merges, then the 30 added tokens, then ids that stay unused."""
    tokenizer = train_bpe(lines, ASR_CONFIG["vocab_size"] - len(ADDED_TOKENS) - UNUSED_IDS)
    add_tokens(tokenizer, ADDED_TOKENS, PLAIN_ADDED_TOKENS)
    return tokenizer


def train_bpe(lines: list[str], entries: int) -> Tokenizer:
    """Byte-level BPE with Qwen2's pre-tokenizer: 256 bytes, and merges of `lines` up to `entries`."""
    tokenizer = configure(Tokenizer(BPE()), TEXT)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=entries, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    if tokenizer.get_vocab_size() != entries:
        sys.exit(f"the text gives {tokenizer.get_vocab_size()} BPE entries, expected {entries}; add text")
    return tokenizer


def add_tokens(tokenizer: Tokenizer, added: list[str], plain: list[str]) -> None:
    """Append the `added` tokens in order; those that are not in `plain` are special."""
    for token in added:
        special = token not in plain
        add = tokenizer.add_special_tokens if special else tokenizer.add_tokens
        add([AddedToken(token, special=special, normalized=False)])


def added_tokens_decoder(tokenizer: Tokenizer, added: list[str], plain: list[str]) -> dict[str, dict[str, Any]]:
    """The same tokens as tokenizer_config.json lists them, by id."""
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {
        str(tokenizer.token_to_id(token)): {"content": token, **flags, "special": token not in plain} for token in added
    }


def save_text_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.model.save(str(folder))  # vocab.json and merges.txt
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": added_tokens_decoder(tokenizer, ADDED_TOKENS, PLAIN_ADDED_TOKENS),
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|endoftext|>",
        "errors": "replace",
        "model_max_length": ASR_CONFIG["max_position_embeddings"],
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    write_json(folder / "tokenizer_config.json", config)
