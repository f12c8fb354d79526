"""The text tokenizer, twice: from the GGUF file's own tokens and merges, and from the checkpoint's files.

The harness uses the first, so that a file with a broken vocabulary cannot pass; the reference uses the second.
"""

from pathlib import Path

from gguf import TokenType
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from mimo_convert.checkpoint import read_json
from mimo_convert.gguf_file import GGUFFile
from quantize.errors import InputError

from .prompt import STOP_TOKENS, clean_transcript

# Qwen2's pre-tokenization, as its tokenizer.json has it; a GGUF file names it `tokenizer.ggml.pre` = qwen2.
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
NEEDED = ("<|im_start|>", "<|im_end|>", "<|sosp|>", "<|eosp|>", "<|empty|>")  # without these there is no prompt


class TextTokenizer:
    """Text ↔ token ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    @classmethod
    def from_gguf(cls, file: GGUFFile, vocab_size: int) -> "TextTokenizer":
        """Built from the file's own vocabulary. Raises InputError if that is missing or does not hold together."""
        keys = ("model", "tokens", "token_type", "merges")
        model, tokens, types, merges = (file.metadata.get(f"tokenizer.ggml.{key}") for key in keys)
        if model != "gpt2":
            raise InputError(file.path, f"key tokenizer.ggml.model is {model!r}", expected="'gpt2', a byte-level BPE")
        for key, value in (("tokens", tokens), ("merges", merges)):
            if not isinstance(value, list) or not value:
                raise InputError(file.path, f"key tokenizer.ggml.{key} is missing", todo="convert the checkpoint again")
        assert isinstance(tokens, list)
        assert isinstance(merges, list)
        types = types or infer_token_types(tokens)
        for key, found in (("tokens", tokens), ("token_type", types)):
            if len(found) != vocab_size:
                raise InputError(file.path, f"key tokenizer.ggml.{key} has {len(found)}", expected=f"{vocab_size}")
        for token in NEEDED:
            if token not in tokens:
                raise InputError(file.path, f"key tokenizer.ggml.tokens lacks {token}", todo="convert it again")
        vocab = {text: id for id, text in enumerate(tokens) if types[id] == TokenType.NORMAL}
        pairs = [tuple(merge.split(" ")) for merge in merges]
        try:
            bpe = BPE(vocab=vocab, merges=pairs)
        except Exception as error:  # the library raises plain Exception: a merge whose parts are not in the vocabulary
            raise InputError(file.path, f"key tokenizer.ggml.merges does not fit the tokens ({error})") from error
        tokenizer = Tokenizer(bpe)
        for id, (text, type) in enumerate(zip(tokens, types, strict=True)):
            if type in (TokenType.CONTROL, TokenType.USER_DEFINED):
                tokenizer.add_tokens([AddedToken(text, special=type == TokenType.CONTROL, normalized=False)])
                if tokenizer.token_to_id(text) != id:
                    raise InputError(file.path, f"key tokenizer.ggml.tokens: {text!r} has id {id}, out of sequence")
        return cls(with_qwen2_rules(tokenizer))

    @classmethod
    def from_checkpoint(cls, folder: Path) -> "TextTokenizer":
        """Read by the `tokenizers` library from tokenizer.json, else from vocab.json + merges.txt."""
        if (folder / "tokenizer.json").exists():
            return cls(Tokenizer.from_file(str(folder / "tokenizer.json")))
        tokenizer = Tokenizer(BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
        decoder = read_json(folder / "tokenizer_config.json")["added_tokens_decoder"]
        entries = [decoder[id] for id in sorted(decoder, key=int)]
        tokenizer.add_tokens([AddedToken(e["content"], special=e["special"], normalized=False) for e in entries])
        return cls(with_qwen2_rules(tokenizer))

    def id_of(self, token: str) -> int:
        """The id of a special token that is known to be there."""
        id = self.tokenizer.token_to_id(token)
        assert id is not None, token
        return id

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, nothing added."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def transcript(self, ids: list[int]) -> str:
        """The answer `ids` as text, without the stop token and the model's markers."""
        answer = ids[:-1] if ids and ids[-1] in self.stops else ids
        return clean_transcript(self.tokenizer.decode(answer, skip_special_tokens=False))

    @property
    def stops(self) -> set[int]:
        return {id for id in map(self.tokenizer.token_to_id, STOP_TOKENS) if id is not None}


def infer_token_types(tokens: list[str]) -> list[int]:
    """Types for a file that gives none, as older tools wrote them: `[PAD…]` is unused, and what follows the plain
    vocabulary, from `<|endoftext|>` on, is control."""
    first = tokens.index("<|endoftext|>") if "<|endoftext|>" in tokens else len(tokens)
    return [
        int(TokenType.NORMAL if id < first else TokenType.UNUSED if text.startswith("[PAD") else TokenType.CONTROL)
        for id, text in enumerate(tokens)
    ]


def with_qwen2_rules(tokenizer: Tokenizer) -> Tokenizer:
    """`tokenizer` with Qwen2's normalization, pre-tokenization and decoding."""
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(QWEN2_PATTERN), "isolated")
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_only])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
