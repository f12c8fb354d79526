"""The text tokenizer: merges of the sentences and of written text."""

import sys
from pathlib import Path

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
    tokenizer = configure(Tokenizer(BPE()), TEXT)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    entries = ASR_CONFIG["vocab_size"] - len(ADDED_TOKENS) - UNUSED_IDS
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=entries, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    if tokenizer.get_vocab_size() != entries:
        sys.exit(f"{WRITTEN_TEXT}: gives {tokenizer.get_vocab_size()} BPE entries, expected {entries}; add text")
    for token in ADDED_TOKENS:
        special = token not in PLAIN_ADDED_TOKENS
        add = tokenizer.add_special_tokens if special else tokenizer.add_tokens
        add([AddedToken(token, special=special, normalized=False)])
    return tokenizer


def save_text_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.model.save(str(folder))  # vocab.json and merges.txt
    added = {
        str(tokenizer.token_to_id(token)): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": token not in PLAIN_ADDED_TOKENS,
        }
        for token in ADDED_TOKENS
    }
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": added,
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
