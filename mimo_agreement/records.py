"""Records of agreement: what a file answered on a clip in a condition, and what follows for each file. Tables, JSON,
JUnit XML, page and card only show them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from runtime_check.run.compare.fidelity import Estimate
from runtime_check.text.words import WordErrors

SCHEMA = "mimo-check agreement 1"
ALL_CONDITIONS = "all"  # the row of a file over all conditions
WORDS, CHARACTERS = "words", "characters"  # units of an error rate


@dataclass(frozen=True)
class Pair:
    """What an answer depends on: the files of a system by their SHA-256 (the speech LM's or ASR model's, and its
    companion's, empty: it has none), the clip's, the condition as it is written with its seed, and the settings of the
    run (language, context, most tokens, …) with the version of the tool."""

    lm: str
    companion: str
    clip: str
    condition: str
    seed: int
    settings: str
    version: str


@dataclass(frozen=True)
class Answer:
    """What a file answered to a pair: the transcript as it was said; `tokens` of the response, and whether it `ended`
    with a stop token; what it says again and again (`loop`, empty: nothing); seconds of audio, the phases of the run in
    seconds or, `ms_per_token`, milliseconds (`timings`), and memory in bytes, as a check has them. `kl` is the sum of
    the KL divergences D(reference ‖ ours) of `kl_tokens` steps of teacher forcing in nats; None: no reference is
    stored."""

    transcript: str
    tokens: int
    ended: bool
    loop: str
    seconds: float
    timings: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
    kl: float | None = None
    kl_tokens: int = 0


@dataclass(frozen=True)
class SpokenClip:
    """A clip of the set: its name, SHA-256, length in seconds, text (None: not known), and the speaker or recording
    that it shares with other clips (`source`, its SHA-256 if that is not known). `language` is that of its prompt."""

    name: str
    sha256: str
    seconds: float
    text: str | None
    source: str
    language: str


@dataclass(frozen=True)
class ModelFiles:
    """The files of a system: name, SHA-256 and bytes of the main one, the type with its mix (`label`), bits per weight,
    and the companion's name, SHA-256 and bytes (empty and 0: it has none)."""

    file: str
    sha256: str
    bytes: int
    label: str
    bits_per_weight: float | None
    companion: str = ""
    companion_sha256: str = ""
    companion_bytes: int = 0

    @property
    def all_bytes(self) -> int:
        """Bytes of both files."""
        return self.bytes + self.companion_bytes


@dataclass(frozen=True)
class Row:
    """A file, by its SHA-256, in a condition or over ALL_CONDITIONS, on `clips` clips with answers of all files, and
    with a text if any has one. They have `seconds` of audio in all, as it was heard.

    `errors` are those of its transcripts beside the texts, micro-averaged in `wer` (a share, with its interval);
    `beside_baseline` and `disagreement` likewise beside the transcripts of the baseline, which has no model error in
    it. `difference` is WER minus the baseline's, on the same draws of clips (paired); `is_worse` and `is_better`:
    its interval is above, or below, 0. `kl` is the mean KL divergence of the steps in nats, None without stored
    references. Counts of answers that are loops, empty, or ended by the limit of tokens; `real_time` is seconds of
    computing by seconds of audio, `peak_memory` the most bytes that a run took, mapped files included."""

    file: str
    condition: str
    clips: int
    seconds: float
    errors: WordErrors
    wer: Estimate
    beside_baseline: WordErrors
    disagreement: Estimate
    difference: Estimate
    is_worse: bool
    is_better: bool
    kl: Estimate | None
    loops: int
    empty: int
    over_long: int
    real_time: float | None
    peak_memory: int


@dataclass(frozen=True)
class WorstClip:
    """An answer with the most errors of a file, by its SHA-256: the clip's name and SHA-256, condition, errors, and
    both texts as they were written."""

    file: str
    clip: str
    sha256: str
    condition: str
    errors: WordErrors
    text: str
    transcript: str


@dataclass(frozen=True)
class Quarantined:
    """A pair of a file, by its SHA-256, that has no answer: a process ended on it as often as it was tried, with this
    reason."""

    file: str
    clip: str
    condition: str
    tries: int
    reason: str


@dataclass(frozen=True)
class Agreement:
    """Files over clips and conditions. `baseline` is the SHA-256 of the file that others are compared with; `unit` what
    error rates count (WORDS or CHARACTERS; of clips in languages of both kinds, each counts its own and `unit` is
    WORDS). `front_wer` and `front_kl` are the SHA-256 of files of which none is both smaller and better, by size.
    `smallest` is the SHA-256 of the smallest file within a point of the baseline, None: none, or not enough words;
    `verdict` says so in a sentence. Without texts (`has_texts`), error rates are beside the baseline alone. `notes` are
    sentences on what does not count, and on what raises doubts about the input."""

    baseline: str
    unit: str
    has_texts: bool
    seed: int
    conditions: tuple[str, ...]
    clips: tuple[SpokenClip, ...]
    files: tuple[ModelFiles, ...]
    rows: tuple[Row, ...]
    worst: tuple[WorstClip, ...]
    front_wer: tuple[str, ...]
    front_kl: tuple[str, ...]
    smallest: str | None
    verdict: str
    quarantined: tuple[Quarantined, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    schema: str = SCHEMA
