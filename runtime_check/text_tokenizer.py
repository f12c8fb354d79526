"""The text tokenizer, twice: from the GGUF file's own tokens and merges, and from the checkpoint's files.

The harness uses the first, so that a file with a broken vocabulary cannot pass; the reference uses the second.
"""

from collections.abc import Iterable
from pathlib import Path

from gguf import TokenType
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from mimo_convert.gguf_file import GGUFFile
from mimo_convert.model_file import AGAIN, vocabulary_of_file
from mimo_convert.models import mimo_asr
from mimo_convert.vocabulary import read_vocabulary, vocabulary_sha256
from quantize.errors import InputError

from .prompt import STOP_TOKENS, clean_transcript

# Qwen2's pre-tokenization, as its tokenizer.json has it; a GGUF file names it `tokenizer.ggml.pre` = qwen2.
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ADDED = (TokenType.CONTROL, TokenType.USER_DEFINED)


class TextTokenizer:
    """Text ↔ token ids. `sha256` is the vocabulary's: of every token and merge."""

    def __init__(self, tokenizer: Tokenizer, sha256: str) -> None:
        self.tokenizer, self.sha256 = tokenizer, sha256

    @classmethod
    def from_gguf(cls, file: GGUFFile, vocab_size: int) -> "TextTokenizer":
        """Built from the file's own vocabulary. Raises InputError if that is missing or does not hold together."""
        tokens, types, merges = vocabulary_of_file(file, vocab_size)
        vocab = {text: id for id, text in enumerate(tokens) if types[id] == TokenType.NORMAL}
        pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
        tokenizer = Tokenizer(BPE(vocab=vocab, merges=pairs))
        for id, (text, type) in enumerate(zip(tokens, types, strict=True)):
            if type in ADDED:
                tokenizer.add_tokens([AddedToken(text, special=type == TokenType.CONTROL, normalized=False)])
                if tokenizer.token_to_id(text) != id:
                    raise InputError(file.path, f"key tokenizer.ggml.tokens: {text!r} has id {id}, out of sequence")
        for token in mimo_asr.FAMILY.needed_tokens:
            if tokenizer.encode(token, add_special_tokens=False).ids != [tokenizer.token_to_id(token)]:
                what = f"key tokenizer.ggml.tokens: {token} is no added token"
                raise InputError(file.path, what, expected="one, for the prompt", todo=AGAIN)
        return cls(with_qwen2_rules(tokenizer), vocabulary_sha256(tokens, merges))

    @classmethod
    def from_checkpoint(cls, folder: Path, vocab_size: int) -> "TextTokenizer":
        """Read by the `tokenizers` library from tokenizer.json, else from vocab.json + merges.txt.

        Raises InputError for files that the library refuses.
        """
        vocabulary = read_vocabulary(folder, vocab_size, mimo_asr.FAMILY.needed_tokens)
        try:
            if (folder / "tokenizer.json").exists():
                return cls(Tokenizer.from_file(str(folder / "tokenizer.json")), vocabulary.sha256)
            tokenizer = Tokenizer(BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
        except Exception as error:  # the library raises nothing more particular
            raise InputError(folder, f"its tokenizer files cannot be used ({error})", todo=AGAIN) from error
        for text, type in zip(vocabulary.tokens, vocabulary.token_types, strict=True):
            if type in ADDED:
                tokenizer.add_tokens([AddedToken(text, special=type == TokenType.CONTROL, normalized=False)])
        return cls(with_qwen2_rules(tokenizer), vocabulary.sha256)

    def id_of(self, token: str) -> int:
        """The id of a special token that is known to be there."""
        id = self.tokenizer.token_to_id(token)
        assert id is not None, token
        return id

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, nothing added."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def answer(self, text: str) -> list[int]:
        """The ids of `text` as the model answers it: behind a space, and with the stop token."""
        return [*self.encode(f" {text.strip()}"), self.id_of(STOP_TOKENS[0])]

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Each id as text by itself; a token may be less than a character, which shows as a replacement character."""
        return [self.tokenizer.decode([id], skip_special_tokens=False) for id in ids]

    def transcript(self, ids: list[int]) -> str:
        """The answer `ids` as text, without the stop token and the model's markers."""
        answer = ids[:-1] if ids and ids[-1] in self.stops else ids
        return clean_transcript(self.tokenizer.decode(answer, skip_special_tokens=False))

    @property
    def stops(self) -> set[int]:
        """The ids that end an answer."""
        return {id for id in map(self.tokenizer.token_to_id, STOP_TOKENS) if id is not None}


def with_qwen2_rules(tokenizer: Tokenizer) -> Tokenizer:
    """`tokenizer` with Qwen2's normalization, pre-tokenization and decoding."""
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(QWEN2_PATTERN), "isolated")
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_only])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
