"""Clean files that the defects are injected into, and mimo-check run on them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from mimo_commands.check import main as mimo_check
from mimo_commands.convert import main as mimo_convert
from mimo_convert.model.checkpoint import open_checkpoint
from mimo_convert.write.convert import convert
from mimo_families.mimo_tokenizer.harness import AudioTokenizer
from mimo_families.qwen3_asr.system import TINY
from quantize.types import TYPES
from runtime_check.audio.jfk import JFK, JFK_TEXT
from runtime_check.audio.wave import Wave
from tests.conftest import SMALL_DECODER, SMALL_LM, SMALL_TOKENIZER
from tests.damage import set_weight
from tests.mimo_families.mimo_audio.speech.speaking import write_speaking_lm
from tests.opened import TINY_ASR, TINY_TOKENIZER, make_request, options_of
from tests.synthetic import DECODER_CONFIG, write_audio_tokenizer, write_speech_lm

BUNDLED = {"tiny": {"lm": TINY_ASR, "tokenizer": TINY_TOKENIZER}, "tiny-qwen3": {"asr": TINY / "model"}}
DECODERS = {
    "whole": SMALL_DECODER,
    "speaking": DECODER_CONFIG,
}  # of audio tokenizers with random weights
ADAPTER = TINY / "noise"
STEMS = {"lm": "mimo-asr", "tokenizer": "mimo-tokenizer", "asr": "qwen3-asr"}
PAIR = {"text": "Qwen3-ASR-{}.gguf", "mmproj": "mmproj-Qwen3-ASR-{}.gguf"}
# Drawn, as the task has it: where nothing is, filters are none.
ASKED = ("--task", "speak", "--text", "hello", "--max-new-tokens", "12", "--seed", "3")
STATIC, CHECKPOINT, RUN, AGAINST = COMMANDS = ("--static", "--checkpoint", "--reference", "--against")


class Base(NamedTuple):
    """A clean file, and what the commands hold it against: its checkpoint, a stored reference and a file of F16 or F32.

    `tokenizer` is the audio tokenizer that a speech LM is run with; `main` the text model that an encoder's file is run
    with; `sound` what is run, if not the JFK clip; `adapter` what was merged; `runtime` what is imitated; `asked` the
    options of another task than recognition, whose reference is the checkpoint.
    """

    file: Path
    checkpoint: str
    reference: str
    against: Path
    tokenizer: Path | None
    sound: Path | None = None
    adapter: Path | None = None
    main: Path | None = None
    runtime: str = ""
    asked: tuple[str, ...] = ()

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that the clean file must pass; of a long clip, and of another task, those that are about it."""
        return (RUN, AGAINST) if self.sound else (STATIC, CHECKPOINT, RUN) if self.asked else COMMANDS

    def options(self, command: str, file: Path) -> list[str]:
        """The command line that examines `file` in one of the ways of COMMANDS."""
        value = {STATIC: [], CHECKPOINT: [self.checkpoint], RUN: [self.reference], AGAINST: [str(self.against)]}
        is_run = command in (RUN, AGAINST)
        main, companion = (self.main, file) if self.main and is_run else (file, self.tokenizer)
        options = [str(main), command, *value[command]]
        if is_run:
            options += ["--tokenizer", str(companion)] if companion else []
            options += ["--runtime", self.runtime] if self.runtime else []
            options += ["--audio", str(self.sound)] if self.sound else []
        if self.asked and command == RUN:
            options = [*options[:1], *self.asked, "--tokenizer", str(self.tokenizer), RUN, self.checkpoint]
        options += ["--adapter", str(self.adapter)] if self.adapter and command == CHECKPOINT else []
        return options


class Bases:
    """The clean files, each made once in `folder`, by the names that the table gives them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, dict[str, Path]()
        self.encoded = dict[tuple[Any, ...], Mapping[str, Any]]()

    def __getitem__(self, name: str) -> Base:
        """`MODEL TYPE [fused|on a long clip|merged|as RUNTIME]`, such as `tiny lm q4_k fused`."""
        source, half, type, *more = name.split()
        if half in PAIR:
            return self._of_pair(half, type, more[-1] if more else "")
        if more == ["merged"]:
            merged, reference = self._merged(type), self._merged_reference()
            return Base(merged, str(BUNDLED[source][half]), reference, merged, None, adapter=ADAPTER)
        file = self._file(source, half, type, more == ["fused"])
        exact = "f16" if source in BUNDLED else "f32"
        return Base(
            file,
            self._checkpoint(source, half),
            self._reference(source, self._long_clip() if "long" in more else None),
            self._file(source, half, exact, False),
            self._file(source, "tokenizer", exact, False) if half == "lm" else None,
            self._long_clip() if "long" in more else None,
            asked=ASKED if source == "speaking" else (),
        )

    def encode_once(self, patch: pytest.MonkeyPatch) -> None:
        """From now on, each clean audio tokenizer encodes a clip once: most of a run's time, for most defects."""
        encode = AudioTokenizer.encode

        def once(tokenizer: AudioTokenizer, wave: Wave, channels: int) -> dict[str, Any]:
            file = tokenizer.weights.file.path
            if self.folder not in file.parents:
                return encode(tokenizer, wave, channels)
            key = file, len(wave), channels
            if key not in self.encoded:
                self.encoded[key] = encode(tokenizer, wave, channels)
            return dict(self.encoded[key])

        patch.setattr(AudioTokenizer, "encode", once)

    def _once(self, name: str, make: Callable[[Path], object]) -> Path:
        if name not in self.made:
            self.made[name] = self.folder / name
            make(self.made[name])
        return self.made[name]

    def _checkpoint(self, source: str, half: str) -> str:
        if source in BUNDLED:
            return source
        if half == "lm":
            return str(self._once("speaking-lm", write_speaking_lm) if source == "speaking" else self._random_lm())
        return str(self._random_tokenizer(f"{source}-tokenizer", DECODERS.get(source, {})))

    def _random_lm(self) -> Path:
        """Of F32 weights, one of them beyond the range of F16."""

        def make(folder: Path) -> None:
            write_speech_lm(folder, dtype="F32", **SMALL_LM | {"max_position_embeddings": 512})
            set_weight(folder, "hidden_states_downcast.weight", 3, 1e5)

        return self._once("random-lm", make)

    def _random_tokenizer(self, name: str, decoder: Mapping[str, Any]) -> Path:
        sizes = SMALL_TOKENIZER | decoder | {"num_quantizers": 8, "codebook_size": [32, 32] + [16] * 6}
        return self._once(name, lambda folder: write_audio_tokenizer(folder, dtype="F32", **sizes))

    def _file(self, source: str, half: str, type: str, fused: bool) -> Path:
        """Of the files of this type and layout, one."""

        def make(out: Path) -> None:
            folders = BUNDLED.get(source) or {half: Path(self._checkpoint(source, half)) for half in halves_of(source)}
            checkpoints = [open_checkpoint(str(folder)) for folder in folders.values()]
            recognising = frozenset({"decoder"} if source in BUNDLED else ())  # as mimo-convert writes it by itself
            options = replace(options_of(fused), without=recognising)
            convert([make_request(checkpoint, [TYPES[type]], options) for checkpoint in checkpoints], out, threads=2)

        return self._once(f"{source}-{type}{'-fused' * fused}", make) / f"{STEMS[half]}-{type}.gguf"

    def _of_pair(self, half: str, type: str, runtime: str) -> Base:
        """Of the tiny Qwen3-ASR for llama.cpp."""
        source = str(BUNDLED["tiny-qwen3"]["asr"])

        def make(out: Path) -> None:
            arguments = [source, "--runtime", "llama.cpp", "--outtype", type, "--no-check", "--out", str(out)]
            result = CliRunner().invoke(mimo_convert, arguments)
            assert result.exit_code == 0, result.output

        folder = self._once(f"pair-{type}", make)
        text, encoder = (folder / name.format(type.upper()) for name in PAIR.values())
        file = text if half == "text" else encoder
        reference = self._reference("tiny-qwen3", None, runtime)
        return Base(file, source, reference, text, encoder, main=None if file is text else text, runtime=runtime)

    def _merged(self, type: str) -> Path:
        """Of the tiny Qwen3-ASR with its adapter."""
        arguments = [str(BUNDLED["tiny-qwen3"]["asr"]), "--adapter", str(ADAPTER), "--outtype", type, "--no-check"]

        def make(out: Path) -> None:
            result = CliRunner().invoke(mimo_convert, [*arguments, "--out", str(out)])
            assert result.exit_code == 0, result.output

        [file] = self._once(f"merged-{type}", make).glob("*.gguf")
        return file

    def _merged_reference(self) -> str:
        options = [str(BUNDLED["tiny-qwen3"]["asr"]), "--adapter", str(ADAPTER), "--language", "english"]

        def make(file: Path) -> None:
            result = check("reference", *options, "-o", str(file))
            assert result.exit_code == 0, result.output

        return str(self._once("merged.safetensors", make))

    def _reference(self, source: str, sound: Path | None, runtime: str = "") -> str:
        if source == "tiny" and sound is None:
            return "tiny"
        main, *others = (self._checkpoint(source, half) for half in halves_of(source))
        options = [main, *(word for other in others for word in ("--tokenizer", other))]
        options += ["--audio", str(sound or JFK)]
        options += ["--runtime", runtime] if runtime else ["--language", "english"]

        def make(file: Path) -> None:
            result = check("reference", *options, "--text", JFK_TEXT, "-o", str(file))
            assert result.exit_code == 0, result.output

        return str(self._once(f"{source}-{sound is None}{runtime}.safetensors", make))

    def _long_clip(self) -> Path:
        return self._once("long.wav", long_clip)


def halves_of(source: str) -> list[str]:
    """The checkpoints of a source: a pair, or one."""
    return ["tokenizer"] if source == "whole" else list(BUNDLED.get(source, BUNDLED["tiny"]))


def long_clip(path: Path) -> None:
    """31 s in stereo, one channel softer and later than the other; no whole number of groups."""
    wave, rate = soundfile.read(JFK, dtype="float32")
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


LM, FUSED, Q4, Q8, TOK = "tiny lm f16", "tiny lm f16 fused", "tiny lm q4_k", "tiny lm q8_0", "tiny tokenizer f16"
RANDOM, SPEAKING, WHOLE = "random lm {}", "speaking lm f32", "whole tokenizer {}"
