"""The result of a check, as plain data, which JSON, table, JUnit XML, page, card and history show (docs/json.md)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mimo_convert.model.provenance import NO_PROVENANCE, Provenance
from mimo_convert.plan.mix import ChosenTypes
from quantize.recipes import type_label
from runtime_check.choices import AUTO
from runtime_check.gate import Gate
from runtime_check.text.loops import Loop
from runtime_check.text.words import WordErrors


@dataclass(frozen=True)
class FileFacts:
    """A GGUF file of a role; `type` is the type of most weights of its matrices, `mixed` the number of tensors of each
    other type that rules chose. `gate_type` is the type whose thresholds apply to a named recipe, or a file of a given
    size, empty where `type`'s do, `role_types` are those that apply to what tensors of one role compute.

    As recorded in the file, empty if not: `outtype` and `recipe`, from which its types follow; `recipe_name`, of a
    named recipe, and `own_rules`, those of `recipe` that are not its, nor chosen for a size; `variant`, its name beside
    others of its type; `quantizer`, the backends of its blocks; `without`, the parts it lacks; `about`, what a model
    card repeats. `stem` is what mimo-convert calls files of this model, before their type; `chosen` the types of a file
    of a given size.
    """

    role: str
    file: str
    sha256: str
    bytes: int
    architecture: str
    type: str
    outtype: str = ""
    recipe: tuple[str, ...] = ()
    layout: str = ""
    without: tuple[str, ...] = ()
    bits_per_weight: float | None = None
    tensor_types: Mapping[str, int] = field(default_factory=dict)
    mixed: Mapping[str, int] = field(default_factory=dict)
    quantizer: str = ""
    provenance: Provenance = NO_PROVENANCE
    about: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""
    role_types: Mapping[str, str] = field(default_factory=dict)
    recipe_name: str = ""
    own_rules: tuple[str, ...] = ()
    gate_type: str = ""
    stem: str = ""
    chosen: ChosenTypes | None = None

    @property
    def predicted_kl(self) -> float | None:
        """The KL divergence that the choice of the file's types predicted, in nats a token; None if it has none."""
        return self.chosen.predicted_kl if self.chosen else None

    @property
    def judged_as(self) -> str:
        """The type whose thresholds apply to the file."""
        return self.gate_type or self.type

    @property
    def label(self) -> str:
        """The type with its mix, such as `q4_k + 2 q6_k`."""
        return type_label(self.outtype or self.type, self.mixed, self.recipe_name)


@dataclass(frozen=True)
class ClipFacts:
    """An audio clip: sha256 of the file, length in seconds, rate in Hz, and the reference text, if it is known.
    `source` is the speaker or recording that it shares with other clips, empty if that is not known."""

    file: str
    sha256: str
    seconds: float
    rate: int
    text: str | None = None
    source: str = ""


@dataclass(frozen=True)
class TaskFacts:
    """The task that the system ran: `language` and `context` of the prompt, `attention` of the audio encoder,
    and the `runtime` that was imitated, empty: upstream."""

    name: str
    language: str
    context: str = ""
    attention: str = AUTO
    runtime: str = ""


@dataclass(frozen=True)
class ReferenceFacts:
    """The reference: `checkpoints` (or files), version and dtype of PyTorch if it computed them, and the transcript."""

    checkpoints: tuple[str, ...]
    torch: str = ""
    dtype: str = ""
    transcript: str = ""


@dataclass(frozen=True)
class StageResult:
    """A stage compared with the reference over `compared` positions; None where a metric does not apply.

    Mean and minimum of the cosines; RMSE relative to the reference's RMS; norm relative to the reference's; share of
    equal codes; signal-to-noise ratio of a wave in dB; mean difference of its log-mel.
    """

    name: str
    role: str
    kind: str
    shape: tuple[int, ...]
    compared: int = 0
    cos_mean: float | None = None
    cos_min: float | None = None
    rel_rmse: float | None = None
    norm_ratio: float | None = None
    agreement: float | None = None
    snr_db: float | None = None
    log_mel: float | None = None


@dataclass(frozen=True)
class HeadResult:
    """A head under teacher forcing: number of choices, share of equal top-1 ids, mean and maximum of the KL divergences
    D(reference ‖ ours) in nats."""

    name: str
    role: str
    choices: int
    top1_agreement: float | None
    kl_mean: float | None
    kl_max: float | None


@dataclass(frozen=True)
class StepResult:
    """A step of teacher forcing for the token `id`: the top-1 tokens of ours and of the reference, the KL divergence
    D(reference ‖ ours) in nats, the rank (1 is first) and probability that ours gives the reference's top-1 token, the
    reference's own probability of it, and the KL divergence of incremental from full decoding."""

    id: int
    text: str
    top1: int
    reference_top1: int
    kl: float | None
    rank: int
    probability: float | None
    reference_probability: float | None
    cached_kl: float | None


@dataclass(frozen=True)
class Steps:
    """All steps of teacher forcing: share of equal top-1 tokens, KL divergences in nats; and incremental against full
    decoding: relative RMSE of the logits and maximum KL divergence."""

    tokens: int
    top1_agreement: float | None
    kl_mean: float | None
    kl_max: float | None
    cached_rel_rmse: float | None
    cached_kl_max: float | None
    steps: tuple[StepResult, ...]


@dataclass(frozen=True)
class SpeechFacts:
    """What was generated for a task beside transcription, that `reply`s with "text" or "speech": its `text`, the length
    of its audio in `seconds`; `groups` are the positions generated behind a prompt of `prompt_groups`, `ended`: by a
    stop token. `sampling` are the samplers' settings by option, a temperature of 0 is argmax, and `seed` that of all
    draws; `dropped_forbidden` counts draws whose filters left only forbidden ids, which were dropped first."""

    reply: str
    text: str
    seconds: float
    prompt_groups: int
    groups: int
    ended: bool
    dropped_forbidden: int
    seed: int
    sampling: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """The files of a system run on a clip. `passed` is None without a reference; `words` is None without a reference
    text; `products` are the types of weights that each code multiplied with: ggml, or a variant of the own kernels;
    `language` is the one that the response names, empty if it names none. `speech` is what was generated, None of a
    transcription: where that is speech, `clip` is what was spoken, and `transcript` what the files hear in it.
    `heads` are those of codes that the model generated. `loop` is what the response says again and again, None if it
    does not."""

    passed: bool | None
    files: tuple[FileFacts, ...]
    clip: ClipFacts
    task: TaskFacts
    reference: ReferenceFacts | None = None
    stages: tuple[StageResult, ...] = ()
    gates: tuple[Gate, ...] = ()
    steps: Steps | None = None
    transcript: str | None = None
    token_ids: tuple[int, ...] = ()
    words: WordErrors | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
    products: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    language: str = ""
    heads: tuple[HeadResult, ...] = ()
    dropped_forbidden: int = 0
    speech: SpeechFacts | None = None
    loop: Loop | None = None

    @property
    def main(self) -> FileFacts:
        """The main file of the system."""
        return self.files[0]

    @property
    def multiplied_by(self) -> str:
        """Which code multiplied with which types, such as `q4_k by avx512_vnni, f32 by ggml`."""
        return ", ".join(f"{' '.join(types)} by {code}" for code, types in self.products.items())

    def file_of(self, role: str) -> FileFacts | None:
        """The file of a role; None if the system has none."""
        return next((file for file in self.files if file.role == role), None)
