"""Defects made on purpose, each a few lines, and what each command says of them: the table that docs/defects.md shows.

Some are in a file, which is taken apart, changed and put together again; the others in the harness, a function of which
is replaced by a wrong one. `python -m tests.zoo` writes the table into the document.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import ggml
import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from click.testing import CliRunner, Result
from gguf import GGUFValueType as V
from tokenizers import decoders

from benchmarks.document import insert
from mimo_convert.checkpoint import open_checkpoint
from mimo_convert.convert import convert
from mimo_convert.gguf_file import Entry, align, header_bytes, read_gguf
from mimo_convert.plan import Options
from mimo_convert.request import make_request
from quantize.kernels import quantize_rows, to_float32
from quantize.types import BF16, F16, F32, TYPES, Type
from runtime_check import audio, bundled, prompt, speech_lm, text_tokenizer
from runtime_check.cli import main as mimo_check
from runtime_check.graph import Graph

from .conftest import SMALL_LM, SMALL_TOKENIZER
from .damage import cut, set_weight
from .synthetic import write_audio_tokenizer, write_speech_lm

DOCUMENT = Path(__file__).parent.parent / "docs" / "defects.md"
STATIC, CHECKPOINT, RUN, AGAINST = COMMANDS = ("--static", "--checkpoint", "--reference", "--against")

Floats = npt.NDArray[np.float32]
Blocks = npt.NDArray[np.uint8]
Patch = pytest.MonkeyPatch


# ── files that are as they should be ─────────────────────────────────────────────────────────────────────────────


class Base(NamedTuple):
    """A clean file, and what the commands hold it against: its checkpoint, a stored reference and a file of F16 or F32.

    `tokenizer` is the audio tokenizer that a speech LM is run with; `sound` what is run, if not the JFK clip.
    """

    file: Path
    checkpoint: str
    reference: str
    against: Path
    tokenizer: Path | None
    sound: Path | None = None

    def options(self, command: str, file: Path) -> list[str]:
        """The command line that examines `file` in one of the ways of COMMANDS."""
        value = {STATIC: [], CHECKPOINT: [self.checkpoint], RUN: [self.reference], AGAINST: [str(self.against)]}
        options = [str(file), command, *value[command]]
        if command in (RUN, AGAINST):
            options += ["--tokenizer", str(self.tokenizer)] if self.tokenizer else []
            options += ["--audio", str(self.sound)] if self.sound else []
        return options


def as_list(value: Any) -> Any:
    """An array of a file's metadata as a list, which can be changed; anything else as it is."""
    return value.tolist() if isinstance(value, np.ndarray) else value


class Bases:
    """The clean files, each made once in `folder`, by the names that the table gives them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, dict[str, Path]()

    def __getitem__(self, name: str) -> Base:
        """`MODEL TYPE [fused|on a long clip]`, such as `tiny lm q4_k fused`."""
        source, half, type, *more = name.split()
        file = self._file(source, half, type, more == ["fused"])
        exact = "f32" if source == "random" else "f16"
        return Base(
            file,
            self._checkpoint(source, half),
            self._reference(source, self._long_clip() if "long" in more else None),
            self._file(source, half, exact, False),
            self._file(source, "tokenizer", exact, False) if half == "lm" else None,
            self._long_clip() if "long" in more else None,
        )

    def _once(self, name: str, make: Callable[[Path], object]) -> Path:
        if name not in self.made:
            self.made[name] = self.folder / name
            make(self.made[name])
        return self.made[name]

    def _checkpoint(self, source: str, half: str) -> str:
        return source if source == "tiny" else str(self._random_lm() if half == "lm" else self._random_tokenizer())

    def _random_lm(self) -> Path:
        """Of F32 weights, one of them beyond the range of F16."""

        def make(folder: Path) -> None:
            write_speech_lm(folder, dtype="F32", **SMALL_LM | {"max_position_embeddings": 512})
            set_weight(folder, "hidden_states_downcast.weight", 3, 1e5)

        return self._once("random-lm", make)

    def _random_tokenizer(self) -> Path:
        sizes = SMALL_TOKENIZER | {"num_quantizers": 8, "codebook_size": [32, 32] + [16] * 6}
        return self._once("random-tokenizer", lambda folder: write_audio_tokenizer(folder, dtype="F32", **sizes))

    def _file(self, source: str, half: str, type: str, fused: bool) -> Path:
        """Of the pair of this type and layout, one."""

        def make(out: Path) -> None:
            folders = {"lm": bundled.TINY_ASR, "tokenizer": bundled.TINY_TOKENIZER}
            if source == "random":
                folders = {half: Path(self._checkpoint(source, half)) for half in folders}
            checkpoints = [open_checkpoint(str(folder)) for folder in folders.values()]
            options = Options(fused)
            convert([make_request(checkpoint, [TYPES[type]], options) for checkpoint in checkpoints], out, threads=2)

        stem = {"lm": "mimo-asr", "tokenizer": "mimo-tokenizer"}[half]
        return self._once(f"{source}-{type}{'-fused' * fused}", make) / f"{stem}-{type}.gguf"

    def _reference(self, source: str, sound: Path | None) -> str:
        if source == "tiny" and sound is None:
            return "tiny"
        models = [self._checkpoint(source, half) for half in ("lm", "tokenizer")]
        options = [models[0], "--tokenizer", models[1], "--audio", str(sound or bundled.JFK), "--language", "english"]

        def make(file: Path) -> None:
            result = check("reference", *options, "--text", bundled.JFK_TEXT, "-o", str(file))
            assert result.exit_code == 0, result.output

        return str(self._once(f"{source}-{sound is None}.safetensors", make))

    def _long_clip(self) -> Path:
        return self._once("long.wav", long_clip)


def long_clip(path: Path) -> None:
    """31 s in stereo, one channel softer and later than the other; no whole number of groups."""
    wave, rate = soundfile.read(bundled.JFK, dtype="float32")
    left = np.tile(wave, 3)[: int(30.9 * rate)]
    soundfile.write(path, np.stack([left, 0.5 * np.roll(left, 2000)], axis=1), rate)


def check(*arguments: str) -> Result:
    """`mimo-check` as a user runs it."""
    return CliRunner().invoke(mimo_check, list(arguments))


def reasons(command: str, result: Result) -> list[str]:
    """What a command gave as reasons for a failure, by itself: of --checkpoint, what --static does not say."""
    if result.exit_code == 2:
        return [result.stderr.strip()]
    shown = result.stdout.partition(" against ")[2] if command == CHECKPOINT else result.stdout
    failed = [part.splitlines()[1:] for part in shown.split("\nFAIL: ")[1:]]
    return [line.strip() for lines in failed for line in takewhile(lambda line: line.startswith("  "), lines)]


# ── files taken apart ────────────────────────────────────────────────────────────────────────────────────────────


class Part(NamedTuple):
    """A tensor: its bytes, and what they are."""

    shape: tuple[int, ...]
    type: Type
    data: npt.NDArray[np.uint8]

    @property
    def floats(self) -> Floats:
        return to_float32(self.data.reshape(self.shape[0], -1), self.type).reshape(self.shape)

    def with_floats(self, x: npt.NDArray[Any], type: Type | None = None) -> "Part":
        """The same tensor with other weights, by ggml's quantizer."""
        rows = np.ascontiguousarray(x, np.float32).reshape(x.shape[0], -1)
        with np.errstate(over="ignore"):
            return Part(x.shape, type or self.type, quantize_rows(rows, type or self.type).reshape(-1).copy())


@dataclass
class File:
    """A GGUF file in its parts, to be changed."""

    architecture: str
    keys: dict[str, Entry]
    tensors: dict[str, Part] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "File":
        file = read_gguf(path)
        parts = {name: Part(t.shape, t.type, t.read().reshape(-1).copy()) for name, t in file.tensors.items()}
        return cls(
            file.architecture, {entry.key: entry._replace(value=as_list(entry.value)) for entry in file.entries}, parts
        )

    def write(self, path: Path) -> None:
        rows = [(name, part.shape, part.type) for name, part in self.tensors.items()]
        data = [part.data.tobytes() for part in self.tensors.values()]
        header = header_bytes(self.architecture, list(self.keys.values()), rows)
        path.write_bytes(header + b"".join(part.ljust(align(len(part)), b"\0") for part in data))

    def value(self, key: str) -> Any:
        return self.keys[key].value

    def put(self, key: str, value: Any, type: V | None = None) -> None:
        """Another value for a key; None takes it out."""
        old = self.keys.pop(key, Entry(key, value, type or V.UINT32))
        if value is not None:
            self.keys[key] = Entry(key, value, type or old.type)

    def floats(self, tensor: str, change: Callable[[Floats], npt.NDArray[Any]], type: Type | None = None) -> None:
        """Other weights, made of a tensor's own."""
        self.tensors[tensor] = self.tensors[tensor].with_floats(change(self.tensors[tensor].floats.copy()), type)

    def swap(self, a: str, b: str) -> None:
        """Two tensors under each other's names."""
        self.tensors |= {a: self.tensors[b], b: self.tensors[a]}


Change = Callable[[File], object]
Damage = Callable[[Path], object]


def edit(change: Change) -> Damage:
    """A defect of a file that is taken apart."""

    def damage(path: Path) -> None:
        file = File.read(path)
        change(file)
        file.write(path)

    return damage


def put(key: str, value: Any, type: V | None = None) -> Damage:
    return edit(lambda file: file.put(key, value, type))


def swap(*pairs: tuple[str, str]) -> Damage:
    return edit(lambda file: [file.swap(*pair) for pair in pairs])


def weights(tensor: str, change: Callable[[Floats], npt.NDArray[Any]], type: Type | None = None) -> Damage:
    return edit(lambda file: file.floats(tensor, change, type))


def part(tensor: str, change: Callable[[Part], Part]) -> Damage:
    return edit(lambda file: file.tensors.update({tensor: change(file.tensors[tensor])}))


def blocks(tensor: str, change: Callable[[Blocks], Blocks]) -> Damage:
    """A tensor's blocks, (n, bytes of one), as `change` returns them."""

    def of(old: Part) -> Part:
        return old._replace(data=change(old.data.reshape(-1, old.type.block_bytes)).reshape(-1))

    return part(tensor, of)


def listed(name: str, change: Callable[[list[Any]], object]) -> Damage:
    """A list of the vocabulary changed in place."""
    return edit(lambda file: change(file.value(TOKENIZER + name)))


def swap_items(a: int, b: int) -> Callable[[list[Any]], None]:
    def change(items: list[Any]) -> None:
        items[a], items[b] = items[b], items[a]

    return change


def lost_tensor(name: str) -> Damage:
    return edit(lambda file: file.tensors.pop(name))


def assign(x: Floats, at: Any, value: Any) -> Floats:
    x[at] = value
    return x


def in_bytes(change: Callable[[bytearray], object]) -> Damage:
    """A defect of the header, which no writer would write."""

    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        change(data)
        path.write_bytes(data)

    return damage


def offset_of(data: bytearray, tensor: str) -> int:
    """Where the header says at which offset a tensor lies."""
    end = data.index(tensor.encode()) + len(tensor)
    (n_dimensions,) = struct.unpack_from("<I", data, end)
    return end + 4 + 8 * n_dimensions + 4


def shift_offset(data: bytearray, tensor: str, by: int) -> None:
    at = offset_of(data, tensor)
    struct.pack_into("<Q", data, at, struct.unpack_from("<Q", data, at)[0] + by)


def swap_offsets(data: bytearray, a: str, b: str) -> None:
    first, second = (slice(at, at + 8) for at in (offset_of(data, a), offset_of(data, b)))
    data[first], data[second] = data[second], data[first]


def rename(data: bytearray, old: str, new: str) -> None:
    """A name in the header becomes another of the same length."""
    at = data.index(old.encode())
    data[at : at + len(new)] = new.encode()


def cut_vocabulary(file: File, n: int) -> None:
    for name in ("tokens", "token_type"):
        del file.value(TOKENIZER + name)[n:]
    for tensor in (EMBED, HEAD):
        file.floats(tensor, lambda x: x[:n])
    file.put("mimo_asr.llm.vocab_size", n)


def truncate(file: File) -> None:
    """An F32 file as one of BF16."""
    for name, part in file.tensors.items():
        if len(part.shape) == 2:
            halves = (part.floats.view(np.uint32) >> 16).astype(np.uint16)
            file.tensors[name] = Part(part.shape, BF16, halves.view(np.uint8).reshape(-1))
    file.put("general.file_type", BF16.file_type)


def to_halves(x: Floats) -> npt.NDArray[Any]:
    with np.errstate(over="ignore"):
        return x.astype(np.float16)


def uncount_level(file: File) -> None:
    del file.tensors[CODEBOOK.format(19)], file.keys["mimo_tok.codebook_size.19"]
    file.put("mimo_tok.num_quantizers", 19)


def split_bias(file: File, layer: str) -> None:
    fused = file.tensors.pop(layer + "attn.qkv.bias").floats
    for c, rows in (("q", slice(256)), ("k", slice(256, 384)), ("v", slice(384, None))):
        file.tensors[f"{layer}attn.{c}.bias"] = file.tensors[layer + "attn_norm.weight"].with_floats(fused[rows])


# ── functions of the harness, replaced ───────────────────────────────────────────────────────────────────────────


def around(owner: Any, name: str, wrong: Callable[..., Any]) -> Callable[[Patch], None]:
    """A function replaced by `wrong`, which gets the right one before its arguments."""
    right = getattr(owner, name)
    return lambda patch: patch.setattr(owner, name, lambda *args, **options: wrong(right, *args, **options))


def causal_groups(patch: Patch) -> None:
    """A mask for attention without one over more than one sequence, which is that within groups."""
    attend, inputs = Graph.attend, speech_lm.prompt_inputs
    causal = np.triu(np.full((4, 4), -np.inf, np.float16), 1)

    def wrong(g: Graph, q: Any, k: Any, v: Any, mask: Any) -> Any:
        return attend(g, q, k, v, g.input("causal", (4, 4), np.float16) if q.contents.ne[3] > 1 else mask)

    patch.setattr(Graph, "attend", wrong)
    patch.setattr(speech_lm, "prompt_inputs", lambda *args: inputs(*args) | {"causal": causal})


def turned(g: Graph, x: Any, at: Any, theta: float, mode: int = ggml.GGML_ROPE_TYPE_NEOX, scale: float = 1.0) -> Any:
    """Rotary embedding of another mode, or of positions times `scale`."""
    return ggml.ggml_rope_ext(g.ctx, x, at, None, x.contents.ne[0], mode, 0, theta, scale, 0.0, 1.0, 0.0, 0.0)


def unscaled(attend: Any, g: Graph, q: Any, *others: Any) -> Any:
    """Attention with scores 8 times as large."""
    return attend(g, ggml.ggml_scale(g.ctx, ggml.ggml_cont(g.ctx, q), 8.0), *others)


def no_final_norm(norm: Any, g: Graph, x: Any, name: str, eps: float) -> Any:
    return ggml.ggml_cont(g.ctx, x) if name == "llm.final_norm" else norm(g, x, name, eps)


def twice(g: Graph, x: Any, name: str) -> Any:
    return ggml.ggml_scale(g.ctx, x, 2.0) if name == "llm.final_norm" else x


def places_with(wrong: Callable[[Any, int], dict[str, Any]]) -> Callable[[Patch], None]:
    """Inputs of the language model for `n` positions, some of them wrong."""

    def change(places: Any, first: int, n: int, n_kv: int) -> Any:
        inputs = places(first, n, n_kv)
        return inputs | wrong(inputs, n)

    return around(speech_lm, "places", change)


def next_phase(resample: Any, wave: Floats, *rates: int) -> Floats:
    """Of each three samples that 16 kHz become, the phases in another order."""
    out = resample(wave, *rates)
    return np.asarray(np.roll(out[: len(out) // 3 * 3].reshape(-1, 3), 1, axis=1).reshape(-1))


def left_channel(blocks: Any, sound: soundfile.SoundFile, path: Path) -> list[Floats]:
    """In place of the mean of all."""
    return [sound.read(dtype="float32", always_2d=True)[:, 0]]


def swapped_swiglu(right: Any, g: Graph, x: Any, name: str) -> Any:
    gate, up = g.linear(x, f"{name}.gate"), g.linear(x, f"{name}.up")
    return g.linear(ggml.ggml_swiglu_split(g.ctx, up, gate), f"{name}.down")


# ── the defects ──────────────────────────────────────────────────────────────────────────────────────────────────


class Defect(NamedTuple):
    """What is wrong; on which of the `Bases`; how a copy of the file, or the harness, is made so; and what each command
    that catches it says. `opening` is what all of them say that run the file or compare it: it is refused.
    """

    name: str
    on: str
    damage: Damage | None
    static: str = ""
    opening: str = ""
    checkpoint: str = ""
    run: str = ""
    against: str = ""
    replace: Callable[[Patch], object] | None = None

    @property
    def says(self) -> dict[str, str]:
        """By command."""
        texts = zip(COMMANDS, (self.static, self.checkpoint, self.run, self.against), strict=True)
        refusing = (RUN, AGAINST) if self.static else (CHECKPOINT, RUN, AGAINST)  # --checkpoint says what --static does
        refused = dict.fromkeys(refusing, self.opening) if self.opening else {}
        return refused | {command: text for command, text in texts if text}


def harness(name: str, on: str, replace: Callable[[Patch], object], run: str) -> Defect:
    """A defect of the harness, which only a run can show."""
    return Defect(name, on, None, run=run, replace=replace)


def defects() -> list[Defect]:
    """All of them."""
    return [*VOCABULARY, *METADATA, *STRUCTURE, *LAYOUT, *WEIGHTS, *BLOCKS, *ENCODER, *HARNESS]


TOKENIZER = "tokenizer.ggml."
L0, L1 = "model.layers.0.", "model.layers.1."
EMBED, HEAD = "llm.embed.weight", "llm.lm_head.weight"
CODEBOOK = "encoder.quant.vq.layers.{}._codebook.embed"
LM, FUSED, Q4, Q8, TOK = "tiny lm f16", "tiny lm f16 fused", "tiny lm q4_k", "tiny lm q8_0", "tiny tokenizer f16"
RANDOM = "random lm {}"
USED_ID, UNUSED_ID = 379, 300  # tokens that the JFK clip's prompt has, and has not
HALF_HEADS = {"num_heads": 4, "num_kv_heads": 2, "head_dim": 64}
GATE, DOWN, OUT, V_PROJ = f"{L0}ffn.gate.weight", f"{L1}ffn.down.weight", "attn.o.weight", f"{L1}attn.v.weight"

VOCABULARY = [
    Defect("vocabulary truncated", LM,
        edit(lambda f: [f.value(TOKENIZER + n).__delitem__(slice(1000, None)) for n in ("tokens", "token_type")]),
        static="vocabulary: key tokenizer.ggml.tokens has 1,000", opening="key tokenizer.ggml.tokens has 1000"),
    Defect("vocabulary, embedding and head cut after the last used id", LM, edit(lambda f: cut_vocabulary(f, 1017)),
        checkpoint="key mimo_asr.llm.vocab_size is 1017, the source's is 1024",
        run="vocabulary: its tokens or merges are not the reference's",
        against="key mimo_asr.llm.vocab_size is 1017, the source's is 1024"),
    Defect("merges missing", LM, put(TOKENIZER + "merges", None),
        static="merges: key tokenizer.ggml.merges is missing, empty, or holds no strings",
        opening="key tokenizer.ggml.merges is missing"),
    Defect("merges that begin with `#` missing", LM,
        edit(lambda f: f.put(TOKENIZER + "merges", [m for m in f.value(TOKENIZER + "merges") if m[0] != "#"])),
        static="merges: token 257 ('##') is the result of no merge",
        opening="key tokenizer.ggml.merges: 18 tokens are the result of no merge"),
    Defect("two merges swapped", LM, listed("merges", swap_items(300, 400)),
        static="merges: merge 300 ('¬ä¸ Ģèµ·') needs 'Ģèµ·', which merge 319 gives",
        checkpoint="key tokenizer.ggml.merges is '¬ä¸ Ģèµ·' at 300, the source's is 'æ Ī'",
        run="vocabulary: its tokens or merges are not the reference's",
        against="key tokenizer.ggml.merges is '¬ä¸ Ģèµ·' at 300, the source's is 'æ Ī'"),
    Defect("last merge missing", LM, listed("merges", list.pop),
        static="merges: token 986 ('Ġlangu') is the result of no merge",
        opening="key tokenizer.ggml.merges: 1 tokens are the result of no merge, 'Ġlangu' first"),
    Defect("special token at a wrong id: `<|sosp|>` and `<|eosp|>` swapped", LM,
        listed("tokens", swap_items(1009, 1010)),
        checkpoint="key tokenizer.ggml.tokens is '<|eosp|>' at 1009, the source's is '<|sosp|>'",
        run="vocabulary: its tokens or merges are not the reference's",
        against="key tokenizer.ggml.tokens is '<|eosp|>' at 1009"),
    Defect("padding missing", LM,
        edit(lambda f: [f.value(TOKENIZER + n).__delitem__(slice(1017, None)) for n in ("tokens", "token_type")]),
        static="vocabulary: key tokenizer.ggml.tokens has 1,017", opening="key tokenizer.ggml.tokens has 1017"),
    Defect("all tokens of type normal", LM, edit(lambda f: f.put(TOKENIZER + "token_type", [1] * 1024)),
        static="merges: token 987 ('<|endoftext|>') is the result of no merge",
        opening="key tokenizer.ggml.merges: 37 tokens are the result of no merge"),
    Defect("a token twice", LM, listed("tokens", lambda tokens: assign(tokens, 400, tokens[401])),
        static="vocabulary: token 401 is '<en', as token 400 is",
        opening="key tokenizer.ggml.merges: merge 144 ('. h') needs '.h', which is not in the vocabulary"),
    Defect("two plain tokens swapped", LM, listed("tokens", swap_items(700, 900)),
        static="merges: merge 445 ('F our') gives id 701, and the one before it id 900",
        checkpoint="key tokenizer.ggml.tokens is 'Ġsou' at 700, the source's is 'Every'",
        run="vocabulary: its tokens or merges are not the reference's",
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

METADATA = [
    Defect("wrong rope theta", LM, put("mimo_asr.llm.rope_theta", 10000.0),
        checkpoint="key mimo_asr.llm.rope_theta is 10000.0, the source's is 640000.0", run="layer_00: cos_",
        against="key mimo_asr.llm.rope_theta is 10000.0, the source's is 640000.0"),
    Defect("rope theta of the local transformer that of the audio tokenizer", LM,
        put("mimo_asr.audio.rope_theta", 10000.0),
        checkpoint="key mimo_asr.audio.rope_theta is 10000.0, the source's is 640000.0",
        run="prefill_audio_features: cos_",
        against="key mimo_asr.audio.rope_theta is 10000.0, the source's is 640000.0"),
    Defect("wrong norm epsilon", LM, put("mimo_asr.llm.rms_norm_eps", 1e-5),
        checkpoint="key mimo_asr.llm.rms_norm_eps is 9.999999747378752e-06, the source's is 9.999999974752427e-07",
        against="key mimo_asr.llm.rms_norm_eps is 9.999999747378752e-06, the source's is 9.999999974752427e-07"),
    Defect("wrong head count, at twice the head_dim", LM,
        edit(lambda f: [f.put(f"mimo_asr.llm.{k}", v) for k, v in HALF_HEADS.items()]),
        checkpoint="key mimo_asr.llm.num_heads is 4, the source's is 2", run="layer_00: cos_",
        against="key mimo_asr.llm.num_heads is 4, the source's is 2"),
    Defect("wrong head count", LM, put("mimo_asr.llm.num_heads", 4),
        static="shapes: tensor model.layers.0.attn.q.weight is 256×256",
        opening="tensor model.layers.0.attn.q.weight has shape (256, 256)"),
    Defect("head_dim lost, where it is not 128", RANDOM.format("f16"), put("mimo_asr.llm.head_dim", None),
        static="shapes: tensor model.layers.0.attn.q.weight is 128×256",
        opening="tensor model.layers.0.attn.q.weight has shape (128, 256)"),
    Defect("zeroemb ids off", LM, put("mimo_asr.audio.speech_zeroemb.2", 127),
        static="metadata: mimo_asr.audio.speech_zeroemb.2 is 127",
        checkpoint="key mimo_asr.audio.speech_zeroemb.2 is 127, the source's is 128",
        run="codebooks of (1024, 1024, 128, 128, 128, 128, 128, 128) rows",
        against="key mimo_asr.audio.speech_zeroemb.2 is 127, the source's is 128"),
    Defect("a size missing", LM, put("mimo_asr.llm.hidden_size", None),
        static="metadata: key mimo_asr.llm.hidden_size is missing", opening="key mimo_asr.llm.hidden_size is missing"),
    Defect("delay pattern of a model without delays", LM, put("mimo_asr.audio.delay_pattern", "0-0-0-0-0-0-0-0"),
        checkpoint="key mimo_asr.audio.delay_pattern is '0-0-0-0-0-0-0-0', the source's is '0-1-2-3-4-5-6-7'",
        against="key mimo_asr.audio.delay_pattern is '0-0-0-0-0-0-0-0', the source's is '0-1-2-3-4-5-6-7'"),
    Defect("metadata type wrong: a number as text", LM, put("mimo_asr.llm.num_layers", "2", V.STRING),
        static="metadata: key mimo_asr.llm.num_layers is '2', string", opening="key mimo_asr.llm.num_layers is '2'"),
    Defect("metadata type wrong: u64 for u32", LM, put("mimo_asr.audio.group_size", 4, V.UINT64),
        static="metadata: key mimo_asr.audio.group_size is 4, uint64"),
    Defect("general.file_type of another type", Q4, put("general.file_type", 2),
        static="types: tensor llm.embed.weight is q4_k"),
    Defect("a recipe that lies", Q4, put("mimo_convert.recipe", "lm_head=q6_k", V.STRING),
        static="types: tensor llm.lm_head.weight is q4_k"),
    Defect("skip connection at the wrong layer", TOK, put("mimo_tok.skip_layer_id", 2),
        checkpoint="key mimo_tok.skip_layer_id is 2, the source's is 3", run="tok_xfmr: cos_",
        against="key mimo_tok.skip_layer_id is 2, the source's is 3"),
    Defect("hop length of another front end", TOK, put("mimo_tok.hop_length", 160),
        checkpoint="key mimo_tok.hop_length is 160, the source's is 240", run="tok_mel: of shape",
        against="key mimo_tok.hop_length is 160, the source's is 240"),
    Defect("window of another front end", TOK, put("mimo_tok.window_size", 400),
        checkpoint="key mimo_tok.window_size is 400, the source's is 960", run="tok_mel: cos_",
        against="key mimo_tok.window_size is 400, the source's is 960"),
    Defect("rope theta of the encoder that of the speech LM", TOK, put("mimo_tok.rope_theta", 640000.0),
        checkpoint="key mimo_tok.rope_theta is 640000.0, the source's is 10000.0", run="tok_xfmr: cos_",
        against="key mimo_tok.rope_theta is 640000.0, the source's is 10000.0"),
]  # fmt: skip

STRUCTURE = [
    Defect("file cut by one byte", LM, lambda path: cut(path, -1),
        static="structure: cut short in tensor llm.codebook_head.7.weight: 5770303 bytes",
        opening="cut short in tensor llm.codebook_head.7.weight: 5770303 bytes"),
    Defect("file cut by one byte of padding", "tiny lm q4_k", lambda path: cut(path, -1),
        static="structure: 1 bytes of padding are missing behind the last tensor"),
    Defect("a byte too many", LM, lambda path: path.write_bytes(path.read_bytes() + b"\0"),
        static="structure: 1 bytes follow the last tensor"),
    Defect("wrong alignment in the metadata", LM, put("general.alignment", 64),
        static="structure: key general.alignment is 64", opening="key general.alignment is 64"),
    Defect("a tensor that is not aligned", LM, in_bytes(lambda data: shift_offset(data, HEAD, 4)),
        static="structure: tensor llm.lm_head.weight lies at offset 525316",
        opening="tensor llm.lm_head.weight lies at offset 525316"),
    Defect("offsets of two tensors swapped", LM,
        in_bytes(lambda data: swap_offsets(data, L0 + "ffn.up.weight", L1 + "ffn.up.weight")),
        static="structure: tensor model.layers.0.ffn.up.weight lies at offset 2368512",
        opening="tensor model.layers.0.ffn.up.weight lies at offset 2368512"),
    Defect("duplicate tensor", LM, in_bytes(lambda data: rename(data, "audio.emb.7.weight", "audio.emb.6.weight")),
        static="structure: tensor audio.emb.6.weight stands twice", opening="tensor audio.emb.6.weight stands twice"),
    Defect("duplicate key", LM,
        in_bytes(lambda data: rename(data, "mimo_asr.llm.num_layers", "mimo_asr.llm.vocab_size")),
        static="structure: key mimo_asr.llm.vocab_size stands twice",
        opening="key mimo_asr.llm.vocab_size stands twice"),
    Defect("GGUF version 2", LM, in_bytes(lambda data: assign(data, 4, 2)), static="structure: GGUF version 2",
        opening="GGUF version 2"),
    Defect("a type that ggml does not have", LM, in_bytes(lambda data: assign(data, offset_of(data, HEAD) - 4, 99)),
        static="structure: tensor llm.lm_head.weight has ggml type 99",
        opening="tensor llm.lm_head.weight has ggml type 99"),
    Defect("architecture of a plain Qwen2", LM, edit(lambda f: setattr(f, "architecture", "qwen2")),
        static="architecture: key general.architecture is 'qwen2'", opening="key general.architecture is 'qwen2'"),
]  # fmt: skip

LAYOUT = [
    Defect("Q and K swapped inside the fused tensor", FUSED,
        weights(L1 + "attn.qkv.weight", lambda x: x[[*range(256, 384), *range(256), *range(384, 512)]]),
        checkpoint="tensor model.layers.1.attn.qkv.weight[0:256]: begins with the rows of model.layers.1.self_attn.k_",
        run="layer_01: cos_",
        against="tensor model.layers.1.attn.qkv.weight[0:256]: begins with the rows of model.layers.1.attn.k.weight"),
    Defect("V before K inside the fused tensor", FUSED,
        weights(L0 + "attn.qkv.weight", lambda x: x[[*range(256), *range(384, 512), *range(256, 384)]]),
        checkpoint="tensor model.layers.0.attn.qkv.weight[256:384]: begins with the rows of model.layers.0.self_attn.",
        run="layer_00: cos_",
        against="tensor model.layers.0.attn.qkv.weight[256:384]: begins with the rows of model.layers.0.attn.v.weight"),
    Defect("a bias not fused", FUSED, edit(lambda f: split_bias(f, L0)),
        static="tensors: missing tensor model.layers.0.attn.qkv.bias",
        opening="missing tensor model.layers.0.attn.qkv.bias"),
    Defect("bias of V zeroed inside the fused tensor", FUSED,
        weights(L0 + "attn.qkv.bias", lambda x: assign(x, slice(384, None), 0)),
        checkpoint="tensor model.layers.0.attn.qkv.bias[384:512]: is all zeros",
        against="tensor model.layers.0.attn.qkv.bias[384:512]: is all zeros"),
    Defect("bias of Q zeroed", LM, weights(L0 + "attn.q.bias", np.zeros_like),
        static="constant tensors: tensor model.layers.0.attn.q.bias: each of its 256 weights is 0",
        checkpoint="tensor model.layers.0.attn.q.bias: is all zeros", run="layer_00: cos_",
        against="tensor model.layers.0.attn.q.bias: is all zeros"),
    Defect("a bias for K, which the encoder has not", TOK,
        edit(lambda f: f.tensors.update({"enc.blk.0.attn.k.bias": f.tensors["enc.blk.0.attn.q.bias"]})),
        static="tensors: extra tensor enc.blk.0.attn.k.bias",
        opening="extra tensor enc.blk.0.attn.k.bias, unknown to mimo_tokenizer"),
    Defect("a tensor missing", LM, lost_tensor(L1 + "ffn.up.weight"),
        static="tensors: missing tensor model.layers.1.ffn.up.weight",
        opening="missing tensor model.layers.1.ffn.up.weight"),
    Defect("a tensor of speech generation missing", LM, lost_tensor("llm.codebook_head.7.weight"),
        static="tensors: missing tensor llm.codebook_head.7.weight",
        opening="missing tensor llm.codebook_head.7.weight"),
    Defect("a tensor with rows and columns exchanged in its shape", LM,
        part("audio.group_proj.weight", lambda part: part._replace(shape=(1024, 256))),
        static="shapes: tensor audio.group_proj.weight is 1024×256",
        opening="tensor audio.group_proj.weight has shape (1024, 256)"),
    Defect("a norm in F16", LM, weights(L0 + "ffn_norm.weight", lambda x: x, F16),
        static="types: tensor model.layers.0.ffn_norm.weight is f16",
        opening="tensor model.layers.0.ffn_norm.weight is f16"),
    Defect("a matrix left in F32", Q4, weights(L0 + "ffn.up.weight", lambda x: x, F32),
        static="types: tensor model.layers.0.ffn.up.weight is f32",
        checkpoint="tensor model.layers.0.ffn.up.weight: row 0", against="tensor model.layers.0.ffn.up.weight: row 0"),
    Defect("a codebook level missing", TOK, lost_tensor(CODEBOOK.format(7)),
        static="tensors: missing tensor encoder.quant.vq.layers.7._codebook.embed",
        opening="missing tensor encoder.quant.vq.layers.7._codebook.embed"),
    Defect("last codebook level missing, and not counted", TOK,
        edit(uncount_level),
        checkpoint="key mimo_tok.num_quantizers is 19, the source's is 20",
        against="key mimo_tok.num_quantizers is 19, the source's is 20"),
]  # fmt: skip

WEIGHTS = [
    Defect("a matrix transposed", LM, weights(L0 + "attn.o.weight", np.transpose),
        checkpoint="tensor model.layers.0.attn.o.weight: is transposed", run="layer_00: cos_",
        against="tensor model.layers.0.attn.o.weight: is transposed"),
    Defect("one row of the embedding wrong", LM, weights(EMBED, lambda x: assign(x, USED_ID, x[UNUSED_ID + 1])),
        checkpoint="tensor llm.embed.weight: row 379", run="prefill_text_embeds: cos_",
        against="tensor llm.embed.weight: row 379"),
    Defect("one row of the embedding wrong, of a token that the clip does not need", LM,
        weights(EMBED, lambda x: assign(x, UNUSED_ID, x[UNUSED_ID + 1])),
        checkpoint="tensor llm.embed.weight: row 300", against="tensor llm.embed.weight: row 300"),
    Defect("a row of the embedding zero", Q8, weights(EMBED, lambda x: assign(x, USED_ID, 0)),
        checkpoint="tensor llm.embed.weight: row 379", run="prefill_text_embeds: cos_",
        against="tensor llm.embed.weight: row 379"),
    Defect("two rows of the head swapped", LM, weights(HEAD, lambda x: assign(x, [480, 392], x[[392, 480]])),
        checkpoint="tensor llm.lm_head.weight: row 392", run="prefill_text_logits_step0: cos_",
        against="tensor llm.lm_head.weight: row 392"),
    Defect("lm_head tied to the embedding", LM, edit(lambda f: f.tensors.update({HEAD: f.tensors[EMBED]})),
        checkpoint="tensor llm.lm_head.weight: begins with the rows of model.embed_tokens.weight",
        run="prefill_text_logits_step0: cos_",
        against="tensor llm.lm_head.weight: begins with the rows of llm.embed.weight"),
    Defect("norm weights off by one layer", LM,
        swap((L0 + "attn_norm.weight", L1 + "attn_norm.weight"), (L0 + "ffn_norm.weight", L1 + "ffn_norm.weight")),
        checkpoint="tensor model.layers.0.attn_norm.weight: is model.layers.1.input_layernorm.weight",
        run="layer_00: cos_", against="tensor model.layers.0.attn_norm.weight: is model.layers.1.attn_norm.weight"),
    Defect("attention's norm and the MLP's swapped", LM, swap((L1 + "attn_norm.weight", L1 + "ffn_norm.weight")),
        checkpoint="tensor model.layers.1.attn_norm.weight: is model.layers.1.post_attention_layernorm.weight",
        run="layer_01: cos_", against="tensor model.layers.1.attn_norm.weight: is model.layers.1.ffn_norm.weight"),
    Defect("two layers swapped", LM,
        edit(lambda f: [f.swap(name, name.replace(L0, L1)) for name in list(f.tensors) if name.startswith(L0)]),
        checkpoint="tensor model.layers.0.attn_norm.weight: is model.layers.1.input_layernorm.weight",
        run="layer_00: cos_", against="tensor model.layers.0.attn_norm.weight: is model.layers.1.attn_norm.weight"),
    Defect("gate and up swapped in one layer", LM, swap((L0 + "ffn.gate.weight", L0 + "ffn.up.weight")),
        checkpoint="tensor model.layers.0.ffn.gate.weight: begins with the rows of model.layers.0.mlp.up_proj.weight",
        run="layer_00: cos_",
        against="tensor model.layers.0.ffn.gate.weight: begins with the rows of model.layers.0.ffn.up.weight"),
    Defect("down of another layer", LM,
        edit(lambda f: f.tensors.update({L1 + "ffn.down.weight": f.tensors[L0 + "ffn.down.weight"]})),
        checkpoint="tensor model.layers.1.ffn.down.weight: begins with the rows of model.layers.0.mlp.down_proj.weight",
        run="layer_01: cos_",
        against="tensor model.layers.1.ffn.down.weight: begins with the rows of model.layers.0.ffn.down.weight"),
    Defect("Q's rows laid out for interleaved rope", LM,
        weights(L0 + "attn.q.weight", lambda x: x.reshape(2, 2, 64, 256).swapaxes(1, 2).reshape(256, 256)),
        checkpoint="tensor model.layers.0.attn.q.weight: row 1", run="layer_00: cos_",
        against="tensor model.layers.0.attn.q.weight: row 1"),
    Defect("a norm with 1 added, as Gemma's", LM, weights(L1 + "ffn_norm.weight", lambda x: x + 1),
        checkpoint="tensor model.layers.1.ffn_norm.weight: has no row that is right", run="layer_01: cos_",
        against="tensor model.layers.1.ffn_norm.weight: has no row that is right"),
    Defect("a norm scaled by 2", LM, weights("llm.final_norm.weight", lambda x: 2 * x),
        checkpoint="tensor llm.final_norm.weight: has no row that is right",
        against="tensor llm.final_norm.weight: has no row that is right"),
    Defect("NaN in a norm", LM, weights(L0 + "ffn_norm.weight", lambda x: assign(x, 77, np.nan)),
        static="numbers: tensor model.layers.0.ffn_norm.weight holds NaN in row 0",
        checkpoint="tensor model.layers.0.ffn_norm.weight: row 0 holds NaN or infinity",
        run="layer_00: holds NaN or infinity",
        against="tensor model.layers.0.ffn_norm.weight: row 0 holds NaN or infinity"),
    Defect("embeddings of two channels swapped", LM, swap(("audio.emb.2.weight", "audio.emb.3.weight")),
        checkpoint="tensor audio.emb.2.weight: begins with the rows of speech_embeddings.3.weight",
        run="prefill_audio_features: cos_",
        against="tensor audio.emb.2.weight: begins with the rows of audio.emb.3.weight"),
    Defect("positions of a group reversed in the projection", LM,
        weights("audio.group_proj.weight", lambda x: x.reshape(256, 4, 256)[:, ::-1].reshape(256, 1024)),
        checkpoint="tensor audio.group_proj.weight: has no row that is right", run="prefill_audio_features: cos_",
        against="tensor audio.group_proj.weight: has no row that is right"),
    Defect("a head of speech generation wrong", LM, swap(("llm.codebook_head.2.weight", "llm.codebook_head.3.weight")),
        checkpoint="tensor llm.codebook_head.2.weight: begins with the rows of local_transformer_lm_heads.3.weight",
        against="tensor llm.codebook_head.2.weight: begins with the rows of llm.codebook_head.3.weight"),
    Defect("bytes of BF16 taken for F16", LM,
        part(V_PROJ, lambda part: part.with_floats(part.floats, BF16)._replace(type=F16)),
        checkpoint="tensor model.layers.1.attn.v.weight: has no row that is right", run="layer_01: cos_",
        against="tensor model.layers.1.attn.v.weight: has no row that is right"),
    Defect("bf16 truncated instead of rounded", RANDOM.format("f32"), edit(truncate),
        checkpoint="tensor llm.embed.weight: row 0"),
    Defect("F16 overflow clipped to infinity", RANDOM.format("f16"),
        weights("audio.hidden_proj.weight", lambda x: x, F16),
        static="numbers: tensor audio.hidden_proj.weight holds infinity in row 3",
        checkpoint="tensor audio.hidden_proj.weight: row 3 holds NaN or infinity",
        against="tensor audio.hidden_proj.weight: row 3 holds NaN or infinity"),
    Defect("F16 overflow clipped to the largest number", RANDOM.format("f16"),
        weights("audio.hidden_proj.weight", lambda x: x.clip(-65504, 65504), F16),
        checkpoint="tensor audio.hidden_proj.weight: row 3", against="tensor audio.hidden_proj.weight: row 3"),
    Defect("F16 subnormals flushed to zero", RANDOM.format("f16"),
        weights(L0 + "ffn.up.weight", lambda x: np.where(abs(x) < 2**-14, 0, x)),
        checkpoint="tensor model.layers.0.ffn.up.weight: row 2"),
]  # fmt: skip

BLOCKS = [
    Defect("one Q4_K block's scale byte flipped", Q4,
        blocks(GATE, lambda b: assign(b, (100, 5), b[100, 5] ^ 0x15)),
        checkpoint="tensor model.layers.0.ffn.gate.weight: row 100",
        against="tensor model.layers.0.ffn.gate.weight: row 100"),
    Defect("one bit of a quant flipped", Q4,
        blocks(GATE, lambda b: assign(b, (100, 50), b[100, 50] ^ 1)),
        checkpoint="tensor model.layers.0.ffn.gate.weight: row 100 is not what our kernels make"),
    Defect("one tensor's blocks shifted by one", Q4,
        blocks(DOWN, lambda b: np.roll(b, 1, axis=0)),
        checkpoint="tensor model.layers.1.ffn.down.weight: has no row that is right", run="layer_01: cos_",
        against="tensor model.layers.1.ffn.down.weight: has no row that is right"),
    Defect("a quantizer without its minimum", Q4,
        blocks(L0 + OUT, lambda b: assign(b, np.s_[:, 2:4], 0)),
        checkpoint="tensor model.layers.0.attn.o.weight: has no row that is right", run="layer_00: cos_",
        against="tensor model.layers.0.attn.o.weight: has no row that is right"),
    Defect("scales all doubled in one tensor", Q8,
        blocks(L1 + OUT, lambda b: assign(b, np.s_[:, :2], (2 * b[:, :2].copy().view(np.float16)).view(np.uint8))),
        checkpoint="tensor model.layers.1.attn.o.weight: has no row that is right", run="layer_01: cos_",
        against="tensor model.layers.1.attn.o.weight: has no row that is right"),
    Defect("nibbles of Q4_K in the wrong order", Q4,
        blocks(GATE, lambda b: assign(b, np.s_[:, 16:], b[:, 16:] << 4 | b[:, 16:] >> 4)),
        checkpoint="tensor model.layers.0.ffn.gate.weight: has no row that is right", run="layer_00: cos_",
        against="tensor model.layers.0.ffn.gate.weight: has no row that is right"),
    Defect("quantized again from blocks of 4 bits", Q4,
        weights(HEAD, lambda x: Part(x.shape, TYPES["q4_0"], np.empty(0, np.uint8)).with_floats(x).floats),
        checkpoint="tensor llm.lm_head.weight: row 0 is not what our kernels make",
        against="tensor llm.lm_head.weight: row 0"),
    Defect("quantized from F16 that had overflowed", RANDOM.format("q8_0"),
        weights("audio.hidden_proj.weight", to_halves, TYPES["q8_0"]),
        static="numbers: tensor audio.hidden_proj.weight holds NaN in row 3, and 31 more that are no numbers",
        checkpoint="tensor audio.hidden_proj.weight: row 3 holds NaN or infinity",
        against="tensor audio.hidden_proj.weight: row 3 holds NaN or infinity"),
    Defect("a NaN scale", Q8, blocks(EMBED, lambda b: assign(b, np.s_[8 * UNUSED_ID, :2], [0, 0x7E])),
        static="numbers: tensor llm.embed.weight holds NaN in row 300, and 31 more that are no numbers",
        checkpoint="tensor llm.embed.weight: row 300 holds NaN or infinity",
        against="tensor llm.embed.weight: row 300 holds NaN or infinity"),
    Defect("a scale 4096 times too large", Q8,
        blocks(EMBED, lambda b: assign(b, (8 * UNUSED_ID, 1), b[8 * UNUSED_ID, 1] + 0x30)),
        static="scales: tensor llm.embed.weight, row 300, block 0", checkpoint="tensor llm.embed.weight: row 300",
        against="tensor llm.embed.weight: row 300"),
]  # fmt: skip

ENCODER = [
    Defect("codebooks in half precision", "random tokenizer f32",
        weights(CODEBOOK.format(0), lambda x: x.astype(np.float16)),
        checkpoint="tensor encoder.quant.vq.layers.0._codebook.embed: row 0",
        against="tensor encoder.quant.vq.layers.0._codebook.embed: row 0"),
    Defect("a codebook stored as F16", TOK, weights(CODEBOOK.format(3), lambda x: x, F16),
        static="types: tensor encoder.quant.vq.layers.3._codebook.embed is f16",
        opening="tensor encoder.quant.vq.layers.3._codebook.embed is f16"),
    Defect("two codebook levels swapped", TOK, swap((CODEBOOK.format(2), CODEBOOK.format(3))),
        checkpoint="tensor encoder.quant.vq.layers.2._codebook.embed: begins with the rows of encoder.quantizer.vq",
        run="tok_codes:",
        against="tensor encoder.quant.vq.layers.2._codebook.embed: begins with the rows of encoder.quant.vq.layers.3."),
    Defect("one row of a codebook zero", TOK, weights(CODEBOOK.format(0), lambda x: assign(x, 7, 0)),
        checkpoint="tensor encoder.quant.vq.layers.0._codebook.embed: row 7",
        against="tensor encoder.quant.vq.layers.0._codebook.embed: row 7"),
    Defect("conv kernel reversed", TOK, weights("encoder.conv1.weight", lambda x: x[..., ::-1]),
        checkpoint="tensor encoder.conv1.weight: has no row that is right", run="tok_conv1: cos_",
        against="tensor encoder.conv1.weight: has no row that is right"),
    Defect("inputs and outputs of a convolution exchanged", TOK,
        weights("encoder.conv2.weight", lambda x: x.swapaxes(0, 1)),
        checkpoint="tensor encoder.conv2.weight: has no row that is right", run="tok_conv2: cos_",
        against="tensor encoder.conv2.weight: has no row that is right"),
    Defect("a convolution's bias zeroed", TOK, weights("encoder.conv2.bias", np.zeros_like),
        static="constant tensors: tensor encoder.conv2.bias: each of its 256 weights is 0",
        checkpoint="tensor encoder.conv2.bias: is all zeros", against="tensor encoder.conv2.bias: is all zeros"),
    Defect("last norm and the pooler's swapped", TOK, swap(("enc.norm.weight", "encoder.down_sample_norm.weight")),
        checkpoint="tensor enc.norm.weight: is encoder.down_sample_norm.weight", run="tok_xfmr: cos_",
        against="tensor enc.norm.weight: is encoder.down_sample_norm.weight"),
    Defect("fc1 and fc2 swapped", TOK, swap(("enc.blk.2.fc1.weight", "enc.blk.2.fc2.weight")),
        checkpoint="tensor enc.blk.2.fc1.weight: begins with the rows of encoder.layers.2.fc2.weight",
        run="tok_xfmr: cos_", against="tensor enc.blk.2.fc1.weight: begins with the rows of enc.blk.2.fc2.weight"),
]  # fmt: skip

LONG = "tiny lm f16 on a long clip"
LOG_MEL, RESAMPLE, RULES = (audio, "log_mel"), (audio, "resample"), (text_tokenizer, "with_qwen2_rules")

HARNESS = [
    harness("reflect padding replaced by zeros", LM, around(np, "pad", lambda pad, x, width, **mode: pad(x, width)),
        run="tok_mel: cos_"),
    harness("mel filters normalised by area", LM,
        around(audio, "mel_filters", lambda filters, d: filters(d) / filters(d).sum(axis=0)), run="tok_mel: cos_"),
    harness("mel in log10", LM, around(*LOG_MEL, lambda mel, *args: mel(*args) / np.float32(np.log(10))),
        run="tok_mel: its norm is 0.4343 times the reference's"),
    harness("mel of powers instead of magnitudes", LM,
        around(np, "abs", lambda absolute, x: absolute(x) ** (2 if x.dtype.kind == "c" else 1)), run="tok_mel: cos_"),
    harness("mel of the clip without its mean", LM,
        around(*LOG_MEL, lambda mel, *args: mel(*args) - mel(*args).mean(axis=0)), run="tok_mel: cos_"),
    harness("no window", LM, around(audio, "hann_window", lambda window, d: np.ones(960)), run="tok_mel: cos_"),
    harness("resampler off by a phase", LM,
        around(*RESAMPLE, next_phase),
        run="tok_mel: cos_"),
    harness("resampler late by a sample", LM, around(*RESAMPLE, lambda resample, *args: np.roll(resample(*args), 1)),
        run="tok_mel: cos_"),
    harness("nearest sample instead of a resampler", LM,
        around(*RESAMPLE, lambda resample, wave, old, new: wave[np.arange(len(wave) * new // old) * old // new]),
        run="tok_mel: cos_"),
    harness("left channel instead of the mean", LONG,
        around(audio, "mono_blocks", left_channel),
        run="tok_mel: cos_"),
    harness("a last chunk of less than a second dropped", LONG,
        around(audio, "chunks", lambda chunks, *args: [chunk for chunk in chunks(*args) if len(chunk) > 24_000]),
        run="tok_mel: of shape"),
    harness("last code frames cut instead of repeated", LONG,
        around(prompt, "_audio_groups", lambda groups, codes, *args: groups(codes[: len(codes) // 4 * 4], *args)),
        run="prompt_ids: shape"),
    harness("no rope in the encoder", LM,
        around(Graph, "rope", lambda rope, g, x, at, theta: turned(g, x, at, theta, scale=float(theta != 10000))),
        run="tok_xfmr: cos_"),
    harness("residual codes of one level only", LM,
        around(ggml, "ggml_sub", lambda sub, ctx, a, b: sub(ctx, a, b) if a.contents.ne[0] != 256 else a),
        run="tok_codes:"),
    harness("input-local attention made causal", LM, causal_groups, run="prefill_audio_features: cos_"),
    harness("prompt split on white space", LM,
        lambda patch: patch.setattr(text_tokenizer, "QWEN2_PATTERN", r"\S+|\s+"), run="prompt_ids: shape"),
    harness("language tag missing", LM, lambda patch: patch.setitem(prompt.LANGUAGE_TAGS, "english", ""),
        run="prompt_ids: shape"),
    harness("template with a full stop", LM, lambda patch: patch.setattr(prompt, "TEMPLATE", prompt.TEMPLATE + "."),
        run="prompt_ids: shape"),
    harness("tokens decoded without the byte table", LM,
        around(*RULES, lambda rules, tokenizer: (rules(tokenizer), setattr(tokenizer, "decoder", decoders.Fuse()))[0]),
        run="transcript: the reference's answer spells 'ĠAndĠso"),
    harness("rope not applied", LM, around(Graph, "rope", lambda rope, g, *args: turned(g, *args, scale=0)),
        run="tok_xfmr: cos_"),
    harness("rope interleaved instead of NeoX", LM,
        around(Graph, "rope", lambda rope, g, *args: turned(g, *args, mode=0)), run="tok_xfmr: cos_"),
    harness("scores of attention not scaled", LM,
        around(Graph, "attend", unscaled),
        run="tok_xfmr: cos_"),
    harness("gate and up swapped in SwiGLU", LM, around(Graph, "swiglu", swapped_swiglu),
        run="prefill_audio_features: cos_"),
    harness("no final norm", LM,
        around(Graph, "rms_norm", no_final_norm),
        run="prefill_last_hidden: its norm is"),
    harness("a final norm of twice the size", LM,
        around(Graph, "rms_norm", lambda norm, g, x, name, eps: twice(g, norm(g, x, name, eps), name)),
        run="prefill_last_hidden: its norm is 2.0000 times the reference's"),
    harness("the prompt sees what comes after it", LM,
        places_with(lambda inputs, n: {"mask": np.zeros_like(inputs["mask"])}),
        run="layer_00: cos_"),
    harness("rows of the KV cache off by one in a step", LM,
        places_with(lambda inputs, n: {"cache_rows": inputs["cache_rows"] - (n == 1)}),
        run="cached_logits: decoding with the KV cache differs"),
    harness("positions off by one in a step", LM,
        places_with(lambda inputs, n: {"positions": inputs["positions"] + np.int32(n == 1)}),
        run="cached_logits: decoding with the KV cache differs"),
]  # fmt: skip


# ── the document ─────────────────────────────────────────────────────────────────────────────────────────────────

PIPE = r"\|"
CAUGHT_BY = ("static", "opening", "checkpoint", "run", "against")


def row(defect: Defect) -> str:
    """A line of the table: commands that say the same stand together."""
    by_text: dict[str, list[str]] = {}
    for name in CAUGHT_BY:
        if text := getattr(defect, name):
            by_text.setdefault(text, []).append(name)
    caught = "<br>".join(", ".join(names) for names in by_text.values())
    said = "<br>".join(f"`` {text} ``".replace("|", PIPE) for text in by_text)
    on = f"{defect.on}, the harness" if defect.replace else defect.on
    return f"| {defect.name.replace('|', PIPE)} | {on} | {caught} | {said} |"


def table() -> list[str]:
    """The whole table, as the document has it."""
    return ["| defect | on | caught by | what is said |", "| --- | --- | --- | --- |", *map(row, defects())]


def document() -> str:
    """The document with the table as it is now."""
    return insert(DOCUMENT.read_text(encoding="utf-8"), "zoo", table())


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
