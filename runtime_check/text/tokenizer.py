"""BPE text tokenizers: from a GGUF file's own tokens and merges, and from a checkpoint's files.

The harness uses the first, so that a file with a broken vocabulary cannot pass; the reference uses the second.
"""

from collections.abc import Iterable, Sequence

from gguf import TokenType
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from mimo_convert.formats.vocabulary import vocabulary_sha256
from mimo_convert.model.checkpoint import Checkpoint
from mimo_convert.model.family import TextFacts
from mimo_convert.model.gguf_facts import AGAIN
from mimo_convert.model.model_file import ModelFile
from quantize.errors import InputError

# Pre-tokenizers by what a GGUF file calls them in `tokenizer.ggml.pre`; Qwen2's as its tokenizer.json has it.
PRE_TOKENIZERS = {
    "qwen2": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    ),
    "gpt-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
}
ADDED = (TokenType.CONTROL, TokenType.USER_DEFINED)


class TextTokenizer:
    """Text ↔ token ids. `sha256` is a hash over the vocabulary; `stop_tokens` end a response."""

    def __init__(self, tokenizer: Tokenizer, sha256: str, stop_tokens: Sequence[str]) -> None:
        self.tokenizer, self.sha256, self.stop_tokens = tokenizer, sha256, stop_tokens

    @classmethod
    def from_gguf(cls, model: ModelFile, text: TextFacts) -> "TextTokenizer":
        """Build from the file's vocabulary. Raises InputError if it is incomplete or inconsistent."""
        path, (tokens, types, merges) = model.path, model.vocabulary
        vocab = {token: i for i, token in enumerate(tokens) if types[i] == TokenType.NORMAL}
        pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
        tokenizer = Tokenizer(BPE(vocab=vocab, merges=pairs))
        for i, (token, token_type) in enumerate(zip(tokens, types, strict=True)):
            if token_type in ADDED:
                special = token_type == TokenType.CONTROL
                tokenizer.add_tokens([AddedToken(token, special=special, normalized=False)])
                if tokenizer.token_to_id(token) != i:
                    raise InputError(path, f"key tokenizer.ggml.tokens: {token!r} has id {i}, out of sequence")
        for token in text.required:
            if tokenizer.encode(token, add_special_tokens=False).ids != [tokenizer.token_to_id(token)]:
                what = f"key tokenizer.ggml.tokens: {token} is not an added token"
                raise InputError(path, what, expected="an added token, as the prompt requires", todo=AGAIN)
        return cls(configure(tokenizer, text), vocabulary_sha256(tokens, merges), text.stop_tokens)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, vocab_size: int, text: TextFacts) -> "TextTokenizer":
        """Read tokenizer.json, else vocab.json + merges.txt, with the `tokenizers` library.

        Raises InputError for files that the library rejects.
        """
        folder, vocabulary = checkpoint.folder, checkpoint.vocabulary(vocab_size, text.required, text.first_added)
        try:
            if (folder / "tokenizer.json").exists():
                tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
                return cls(tokenizer, vocabulary.sha256, text.stop_tokens)
            tokenizer = Tokenizer(BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
        except Exception as error:  # the library raises nothing more particular
            raise InputError(folder, f"its tokenizer files cannot be used ({error})", todo=AGAIN) from error
        for token, token_type in zip(vocabulary.tokens, vocabulary.token_types, strict=True):
            if token_type in ADDED:
                special = token_type == TokenType.CONTROL
                tokenizer.add_tokens([AddedToken(token, special=special, normalized=False)])
        return cls(configure(tokenizer, text), vocabulary.sha256, text.stop_tokens)

    def id_of(self, token: str) -> int:
        """The id of a special token, which must exist."""
        token_id = self.tokenizer.token_to_id(token)
        assert token_id is not None, token
        return token_id

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without special tokens."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def response(self, text: str) -> list[int]:
        """Token ids of `text` as a response, with the stop token."""
        return [*self.encode(text), self.id_of(self.stop_tokens[0])]

    def token_texts(self, ids: Iterable[int]) -> list[str]:
        """The text of each id; an incomplete UTF-8 sequence becomes a replacement character."""
        return [self.tokenizer.decode([i], skip_special_tokens=False) for i in ids]

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """The text of a response, without the stop token; with `skip_special` without any special token."""
        response = ids[:-1] if ids and ids[-1] in self.stops else ids
        return str(self.tokenizer.decode(list(response), skip_special_tokens=skip_special))

    @property
    def stops(self) -> set[int]:
        """The ids of the stop tokens."""
        return {i for i in map(self.tokenizer.token_to_id, self.stop_tokens) if i is not None}


def configure(tokenizer: Tokenizer, text: TextFacts) -> Tokenizer:
    """Set the family's normalizer, pre-tokenizer and decoder."""
    if text.normalize_nfc:
        tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(PRE_TOKENIZERS[text.pre]), "isolated")
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_only])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
