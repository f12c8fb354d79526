"""What is right before it is damaged: a small pair of checkpoints, files made of them, and what belongs to those."""

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import soundfile

from mimo_convert.formats.imatrix import read_calibration, write_legacy
from mimo_convert.write.chunks import CHUNK_WEIGHTS
from mimo_nightly.history import FAILED, PASSED, UNCHECKED, FileRow, History, Problem, StageRow, TargetResult
from mimo_nightly.notify.outbox import Change, Outbox
from runtime_check.audio.clips import read_clip
from runtime_check.run.activations import GREEDY, RESPONSE, Activations
from runtime_check.run.system import Task
from tests.fuzz.case import Case, Folders
from tests.fuzz.forked import Ended, Forks, Order
from tests.hub_server import Hub
from tests.mimo_convert.write.resume.killed import Fault, Runs
from tests.opened import open_pair
from tests.synthetic import write_audio_tokenizer, write_speech_lm
from tests.system.calibrations import write_imatrix

T = TypeVar("T")
LM = {
    "vocab_size": 400, "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
    "head_dim": 32, "intermediate_size": 256, "input_local_layers": 1, "input_local_dim": 32, "local_layers": 1,
    "local_dim": 64, "local_ffn_dim": 64, "local_attn_heads": 2, "max_position_embeddings": 80,
    "speech_vocab_size": "33-33-17-17-17-17-17-17",
    "speech_zeroemb_idx": "32-32-16-16-16-16-16-16",
}  # fmt: skip
TOKENIZER = {
    "d_model": 64, "encoder_layers": 1, "encoder_skip_layer_id": 1, "encoder_attention_heads": 2,
    "encoder_ffn_dim": 256, "n_mels": 16, "num_quantizers": 8, "codebook_size": [32, 32] + [16] * 6,
}  # fmt: skip
SOUNDS = {
    "wav": {},
    "flac": {},
    "ogg": {},
    "mp3": {},
    "aiff": {},
    "au": {},
    "w64": {},
    "caf": {},
    "voc": {"subtype": "PCM_16"},
}
SHA = "0123456789abcdef" * 4
FOUND = "mimo-asr-q8_0.gguf", "mimo-tokenizer-q8_0.gguf"
REPO = "someone/speech"
REPOS = {"someone/asr": "asr", "someone/tok": "tok", REPO: "q8_0"}


class Seeds:
    """Made in `folder` with the commands that are fuzzed; `hub` serves some of it."""

    def __init__(self, folder: Path, forks: Forks, hub: Hub) -> None:
        self.folder, self.forks, self.hub = folder, forks, hub
        hub.repos = {name: {"main": folder / place} for name, place in REPOS.items()}
        self.parsed: dict[tuple[str, Any], Any] = {}
        write_speech_lm(folder / "asr", **LM)
        write_audio_tokenizer(folder / "tok", **TOKENIZER)
        write_legacy(folder / "imatrix.dat", read_calibration(write_imatrix(folder / "asr", folder / "imatrix.gguf")))
        self.make_sounds()
        self.convert("q8_0", "--outtype", "q8_0", "--fuse-qkv", "--base-model", "a/b", "--tokenizer-base-model", "a/c")
        self.convert("q4_k", "--outtype", "q4_k", "--tensor-type", "ffn.up=q5_k", "--tensor-type", "embed=iq4_nl")
        self.convert("f16", "--outtype", "f16", "--asr-only")
        self.interrupt()
        self.make_reference()
        self.make_history()

    def convert(self, folder: str, *options: str) -> None:
        models = [str(self.folder / name) for name in ("asr", "tok")]
        out = str(self.folder / folder)
        arguments = [models[0], "--tokenizer", models[1], *options, "--no-check", "--threads", "1", "--out", out]
        self.run(Case("mimo-convert", [*arguments, "--tokenizer-outtype", folder], {}, True))
        for mix in (self.folder / folder).glob("*-mix.gguf"):
            mix.rename(mix.with_name(mix.name.replace("-mix", "")))

    def run(self, case: Case) -> None:
        folders = Folders(self.folder / "run")
        folders.fill(case.files)
        ended = self.forks(order_of(case, folders))
        assert ended.status in (0, 1), (case, ended, folders.stream("stderr").decode())

    def interrupt(self) -> None:
        """A conversion of the audio tokenizer that is killed when half of it is done: NAME.part and its journal."""
        arguments = [self.folder / "tok", "--outtype", "q8_0", "--out", self.folder / "interrupted", "--threads", "1"]
        with Runs(self.folder, chunk_weights=CHUNK_WEIGHTS, flush_bytes=1) as runs:
            ended = runs(*arguments, fault=Fault("kill", 20, only=("fdatasync",)))
        assert ended.status == -9, ended

    def make_sounds(self) -> None:
        t = np.arange(3200) / 16000
        wave = (0.3 * np.sin(2 * np.pi * 440 * t) + 0.1 * np.random.default_rng(0).standard_normal(len(t))).astype("f4")
        for name, options in SOUNDS.items():
            soundfile.write(self.folder / f"clip.{name}", np.stack([wave, wave], 1), 16000, **options)

    def make_reference(self) -> None:
        """A stored reference that the Q8_0 pair agrees with, and the report of a check with it."""
        lm, tokenizer = (self.folder / "q8_0" / name for name in FOUND)
        system, clip = open_pair(lm, tokenizer, 1), read_clip(self.folder / "clip.wav")
        task = Task(language="english", max_new_tokens=3)
        run = system.run(clip, task, keep_stages=True)
        own = run.stages | {RESPONSE: run.stages[GREEDY]}
        stages = own | system.teacher_force(run, own, task)
        Activations(stages, run.transcript, replace(run.origin, dtype="f32", torch="2.13.0")).save(
            self.folder / "reference.safetensors"
        )
        arguments = [str(lm), "--reference", str(self.folder / "reference.safetensors"), "--static"]
        arguments += ["--audio", str(self.folder / "clip.wav"), "--max-new-tokens", "3", "--threads", "1"]
        self.run(Case("mimo-check", [*arguments, "--json", str(self.folder / "report.json")], {}, True))

    def make_history(self) -> None:
        """Four runs of three targets; the last began just now, has not ended, and is that of the config."""
        now = datetime.now(timezone.utc)
        with closing(History(self.folder / "history.sqlite")) as history:
            history.connection.execute("PRAGMA synchronous = OFF")
            for run in range(1, 5):
                started = (now - timedelta(days=4 - run)).strftime("%Y-%m-%dT%H:%M:%SZ")
                config = sha256(self.config.encode()).hexdigest()
                assert history.begin(started, config) == run
                for target, state in (("good", PASSED), ("fallen", FAILED if run > 2 else PASSED), ("away", UNCHECKED)):
                    history.record(self.found(target, state, run, started))
                if run < 4:
                    history.finish(run, started)
                if run == 3:
                    outbox, change = Outbox(history), Change(run, "fallen", "PASS", "FAIL")
                    outbox.add(change)
                    outbox.set_failed([change], started, "hooks.example.org: HTTP 404 Not Found")

    @staticmethod
    def found(target: str, state: str, run: int, started: str) -> TargetResult:
        stages = [
            StageRow("a.gguf", "clip.wav", stage, role, kind, 0.99 - 0.001 * run, 0.9, 0.1, passed=state == PASSED)
            for stage, role, kind in (
                ("tok_mel", "audio_tokenizer", "features"), ("layer_00", "speech_lm", "layer"),
                ("prefill_last_hidden", "speech_lm", "hidden"),
            )
        ]  # fmt: skip
        stages.append(StageRow("a.gguf", "clip.wav", "steps", "speech_lm", "logits", agreement=0.9, kl_mean=0.01))
        problems = (
            [] if state == PASSED else [Problem("layer_00: cos_mean 0.6 is below 0.9 by 0.3", "clip.wav", "layer_00")]
        )
        files = [FileRow("a.gguf", SHA, 1000 + run), FileRow("b.gguf", SHA, 10, "c" * 40, SHA)]
        versions = {"python": "3.11.7", "numpy": f"2.{run}"}
        report = f"runs/{run}/{target}.html"
        return TargetResult(run, target, started, 1.5, state, "whole", problems, files, versions, report, stages)

    @cached_property
    def config(self) -> str:
        """A nightly.toml of the targets in the history; none of its files need be there."""
        targets = "".join(
            f'[[target]]\nname = "{name}"\nfile = "a.gguf"\nreference = "r.safetensors"\n\n'
            for name in ("good", "fallen", "away")
        )
        return f'history = "history.sqlite"\npages = "pages"\n\n{targets}'

    def path(self, name: str) -> Path:
        return self.folder / name

    def under(self, folder: str, name: str = "", without: tuple[str, ...] = ()) -> dict[str, Path]:
        """The files of a folder by the names that they are to have in a case."""
        name = name or folder
        paths = sorted(path for path in (self.folder / folder).iterdir() if path.name not in without)
        return {f"{name}/{path.name}": path for path in paths}

    def bytes(self, name: str) -> bytes:
        return self.parse(name, lambda data: data)

    def json(self, name: str) -> Any:
        return self.parse(name, json.loads)

    def parse(self, name: str, parse: Callable[[bytes], T]) -> T:
        """What `parse` makes of a file, once."""
        key = name, getattr(parse, "__qualname__", parse)
        if key not in self.parsed:
            self.parsed[key] = parse((self.folder / name).read_bytes())
        found: T = self.parsed[key]
        return found


def order_of(case: Case, folders: Folders) -> Order:
    work, told, home = map(str, (folders.work, folders.told, folders.home))
    return Order(case.command, list(case.arguments), work, told, home, case.stdin, dict(case.environment))


def run_case(case: Case, folders: Folders, forks: Forks) -> Ended:
    """Put the case's files into its folder, and run it there."""
    folders.fill(case.files)
    return forks(order_of(case, folders))
