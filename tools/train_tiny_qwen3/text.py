"""The text tokenizer: merges of the sentences, the published added tokens in their order; and prompts."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import BPE

from runtime_check.text.tokenizer import configure
from tools.train_tiny.files import write_json
from tools.train_tiny.text import ADDED_TOKENS as QWEN2_TOKENS
from tools.train_tiny.text import PLAIN_ADDED_TOKENS as QWEN2_PLAIN
from tools.train_tiny.text import TEXT as QWEN2_FACTS
from tools.train_tiny.text import add_tokens, added_tokens_decoder, train_bpe

from .configs import TEXT

END, STOPS = "<|im_end|>", ("<|im_end|>", "<|endoftext|>")
AUDIO_START, AUDIO_END, AUDIO_PAD, TAG = "<|audio_start|>", "<|audio_end|>", "<|audio_pad|>", "<asr_text>"
UNUSED_IDS = 12
QWEN2 = QWEN2_TOKENS[: QWEN2_TOKENS.index(QWEN2_PLAIN[-1]) + 1]  # of Qwen2.5, the same in every later model
THINKING = ["<tool_response>", "</tool_response>", "<think>", "</think>"]
SPEECH = [AUDIO_START, AUDIO_END, "<tts_pad>", "<tts_text_bos>", "<tts_text_eod>", "<tts_text_bos_single>"]
ADDED_TOKENS = [*QWEN2, *THINKING, *SPEECH, "<non_speech>", AUDIO_PAD, *(f"<blank{i}>" for i in range(1, 28)), TAG]
PLAIN_ADDED_TOKENS = [*QWEN2_PLAIN, *THINKING, "<non_speech>", TAG]
PROMPT_WORDS = ["system", "user", "assistant", "language English", "language German", "language None"]


class Prompts:
    """Prompts and responses as token ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.pad, self.end = (tokenizer.token_to_id(token) for token in (AUDIO_PAD, END))
        self.stops = {tokenizer.token_to_id(token) for token in STOPS}

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode([i for i in ids if i not in self.stops], skip_special_tokens=False))

    def prompt(self, n_audio: int, context: str = "", language: str = "") -> list[int]:
        """The prompt of `n_audio` audio tokens; with a `language`, the response's head as well."""
        before = f"<|im_start|>system\n{context}{END}\n<|im_start|>user\n{AUDIO_START}"
        after = f"{AUDIO_END}{END}\n<|im_start|>assistant\n" + (f"language {language}{TAG}" if language else "")
        return [*self.encode(before), *[self.pad] * n_audio, *self.encode(after)]

    def response(self, text: str, language: str, forced: bool) -> list[int]:
        return self.encode(f"{text if forced else f'language {language}{TAG}{text}'}{END}")


def train_text_tokenizer(lines: list[str]) -> Tokenizer:
    """Byte-level BPE as Qwen2's: 256 bytes and the merges, then the added tokens, then ids that stay unused."""
    tokenizer = train_bpe(lines + PROMPT_WORDS * 50, TEXT["vocab_size"] - len(ADDED_TOKENS) - UNUSED_IDS)
    add_tokens(tokenizer, ADDED_TOKENS, PLAIN_ADDED_TOKENS)
    return tokenizer


def save_text_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """vocab.json, merges.txt and tokenizer_config.json; like the published model, without tokenizer.json."""
    tokenizer.model.save(str(folder))
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": added_tokens_decoder(tokenizer, ADDED_TOKENS, PLAIN_ADDED_TOKENS),
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": END,
        "errors": "replace",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    write_json(folder / "tokenizer_config.json", config)


def read_text_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer that `save_text_tokenizer` wrote."""
    tokenizer = configure(Tokenizer(BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))), QWEN2_FACTS)
    add_tokens(tokenizer, ADDED_TOKENS, PLAIN_ADDED_TOKENS)
    return tokenizer
