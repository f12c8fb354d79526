"""Defects of the vocabulary."""

from collections.abc import Callable
from typing import Any

from ..bases import LM
from ..defect import Defect
from ..edits import EMBED, HEAD, TOKENIZER, Damage, File, assign, edit, put


def listed(name: str, change: Callable[[list[Any]], object]) -> Damage:
    """A list of the vocabulary changed in place."""
    return edit(lambda file: change(file.value(TOKENIZER + name)))


def swap_items(a: int, b: int) -> Callable[[list[Any]], None]:
    def change(items: list[Any]) -> None:
        items[a], items[b] = items[b], items[a]

    return change


def cut_vocabulary(file: File, n: int) -> None:
    for name in ("tokens", "token_type"):
        del file.value(TOKENIZER + name)[n:]
    for tensor in (EMBED, HEAD):
        file.floats(tensor, lambda x: x[:n])
    file.put("mimo_asr.llm.vocab_size", n)


VOCABULARY = [
    Defect("vocabulary truncated", LM,
        edit(lambda f: [f.value(TOKENIZER + n).__delitem__(slice(1000, None)) for n in ("tokens", "token_type")]),
        static="vocabulary: key tokenizer.ggml.tokens has 1,000", opening="key tokenizer.ggml.tokens has 1000"),
    Defect("vocabulary, embedding and head cut after the last used id", LM, edit(lambda f: cut_vocabulary(f, 1017)),
        checkpoint="key mimo_asr.llm.vocab_size is 1017, the source's is 1024",
        run="vocabulary: tokens or merges differ",
        against="key mimo_asr.llm.vocab_size is 1017, the source's is 1024"),
    Defect("merges missing", LM, put(TOKENIZER + "merges", None),
        static="merges: key tokenizer.ggml.merges is missing, empty, or holds no strings",
        opening="key tokenizer.ggml.merges is missing"),
    Defect("merges that begin with `#` missing", LM,
        edit(lambda f: f.put(TOKENIZER + "merges", [m for m in f.value(TOKENIZER + "merges") if m[0] != "#"])),
        static="merges: token 257 ('##') is the result of no merge",
        opening="key tokenizer.ggml.merges: token 257 ('##') is the result of no merge, the first of 18 such findings"),
    Defect("two merges swapped", LM, listed("merges", swap_items(300, 400)),
        static="merges: merge 300 ('¬ä¸ Ģèµ·') needs 'Ģèµ·', which merge 319 gives",
        checkpoint="key tokenizer.ggml.merges is '¬ä¸ Ģèµ·' at 300, the source's is 'æ Ī'",
        run="vocabulary: tokens or merges differ",
        against="key tokenizer.ggml.merges is '¬ä¸ Ģèµ·' at 300, the source's is 'æ Ī'"),
    Defect("last merge missing", LM, listed("merges", list.pop),
        static="merges: token 986 ('Ġlangu') is the result of no merge",
        opening="key tokenizer.ggml.merges: token 986 ('Ġlangu') is the result of no merge"),
    Defect("special token at a wrong id: `<|sosp|>` and `<|eosp|>` swapped", LM,
        listed("tokens", swap_items(1009, 1010)),
        checkpoint="key tokenizer.ggml.tokens is '<|eosp|>' at 1009, the source's is '<|sosp|>'",
        run="vocabulary: tokens or merges differ",
        against="key tokenizer.ggml.tokens is '<|eosp|>' at 1009"),
    Defect("padding missing", LM,
        edit(lambda f: [f.value(TOKENIZER + n).__delitem__(slice(1017, None)) for n in ("tokens", "token_type")]),
        static="vocabulary: key tokenizer.ggml.tokens has 1,017", opening="key tokenizer.ggml.tokens has 1017"),
    Defect("all tokens of type normal", LM, edit(lambda f: f.put(TOKENIZER + "token_type", [1] * 1024)),
        static="merges: token 987 ('<|endoftext|>') is the result of no merge",
        opening="key tokenizer.ggml.merges: token 987 ('<|endoftext|>') is the result of no merge"),
    Defect("a token twice", LM, listed("tokens", lambda tokens: assign(tokens, 400, tokens[401])),
        static="vocabulary: token 401 is '<en', as token 400 is",
        opening="key tokenizer.ggml.merges: merge 144 ('. h') needs '.h', which is not a plain token"),
    Defect("two plain tokens swapped", LM, listed("tokens", swap_items(700, 900)),
        static="merges: merge 445 ('F our') gives id 701, and the one before it id 900",
        checkpoint="key tokenizer.ggml.tokens is 'Ġsou' at 700, the source's is 'Every'",
        run="vocabulary: tokens or merges differ",
        against="key tokenizer.ggml.tokens is 'Ġsou' at 700, the source's is 'Every'"),
    Defect("end of text is another token", LM, put(TOKENIZER + "eos_token_id", 0),
        static="special tokens: key tokenizer.ggml.eos_token_id is 0, the normal token '!'",
        checkpoint="key tokenizer.ggml.eos_token_id is 0, the source's is 987",
        against="key tokenizer.ggml.eos_token_id is 0, the source's is 987"),
    Defect("end of text is `<|im_end|>`", LM, put(TOKENIZER + "eos_token_id", 989),
        checkpoint="key tokenizer.ggml.eos_token_id is 989, the source's is 987",
        against="key tokenizer.ggml.eos_token_id is 989, the source's is 987"),
    Defect("text split by GPT-2's rules", LM, put(TOKENIZER + "pre", "gpt-2"),
        static="vocabulary: key tokenizer.ggml.pre is 'gpt-2'",
        checkpoint="key tokenizer.ggml.pre is 'gpt-2', the source's is 'qwen2'",
        against="key tokenizer.ggml.pre is 'gpt-2', the source's is 'qwen2'"),
]  # fmt: skip
