"""Schema of a nightly run's config: tables, keys and their types."""

import math
import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError

from mimo_agreement.cluster.address import ClusterAddress
from mimo_agreement.conditions.condition import CLEAN, KNOWN, parse_condition
from mimo_convert.fields import CONTROL, shown
from mimo_convert.model.checkpoint import REPO as HUB_ID
from mimo_convert.threads import MAX_THREADS, default_threads
from mimo_families.registry import systems
from mimo_nightly.files.cache import may_be_kept
from quantize.errors import InputError
from runtime_check.audio.jfk import JFK
from runtime_check.choices import ATTENTION, AUTO, MOST_SEED, OFF, PRODUCTS, REPACK
from runtime_check.run.system import AUTO_LANGUAGE

from .regression import METRICS

UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
LONGEST = 10_000 * 86_400  # seconds
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # of a target: it becomes a file's name
RESERVED = ".agreement"  # which a target's page of agreement has behind its name
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # of the environment
NOTIFY = "command, a program and its arguments, or webhook_env, the environment variable that holds the URL"
COMPANION_KEYS = ("tokenizer", "mmproj")  # of the file beside `file`
TOGETHER = {  # keys, and those without which they mean nothing
    "revision": "repo", "checkpoint_tokenizer": "checkpoint", "reference_tokenizer": "reference", "imatrix": "rows",
}  # fmt: skip
ON_DISK = ("/", "./", "../", "~")  # how a path begins where names are those of a repository
HUB_FILE = "a file's name in the repository, without .. and \\, and not one of the cache's own"


@dataclass(frozen=True)
class Expected:
    """The expected value of a key as text: part of a field's type, for messages."""

    words: str


def table_error(what: str, expected: str = "") -> PydanticCustomError:
    """An error about a whole table, whose keys contradict each other."""
    return PydanticCustomError("table", "{what}", {"what": what, "expected": expected})


# ── types of values ──────────────────────────────────────────────────────────────────────────────────────────────


def _holds(condition: Callable[[Any], object]) -> AfterValidator:
    """A validator that accepts values for which the condition is true."""

    def check(value: Any) -> Any:
        if not condition(value):
            raise ValueError
        return value

    return AfterValidator(check)


def _is_one_of(choices: Collection[str]) -> AfterValidator:
    return _holds(lambda value: value in choices)


def seconds(value: object) -> float:
    """Parse a time such as "45 min" or "2 d" to seconds. Raises ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *(s|min|h|d)", value) if isinstance(value, str) else None
    time = float(found[1]) * UNITS[found[2]] if found else 0
    if not 0 < time <= LONGEST:
        raise ValueError
    return time


def _utc(value: date) -> str:
    """A date, or a time in UTC, in the format of the history, so that they compare as text."""
    if not isinstance(value, datetime):
        return value.isoformat()
    try:
        moment = value.astimezone(timezone.utc)
    except (OSError, OverflowError) as error:  # the calendar does not reach so far
        raise ValueError from error
    return moment.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _conditions(texts: list[str]) -> list[str]:
    """Conditions as they are written, each once. Raises ValueError."""
    try:
        names = [parse_condition(text).name for text in texts]
    except InputError as error:
        raise ValueError from error
    if len(set(names)) < len(names):
        raise ValueError
    return names


Text = Annotated[
    str,
    _holds(lambda value: value.strip() and not CONTROL.search(value)),
    Expected("text in quotes, without control characters"),
]
Texts = Annotated[
    list[Text], BeforeValidator(_as_list), Field(min_length=1), Expected("text in quotes, or a list of such")
]
Arguments = Annotated[
    list[Annotated[str, _holds(lambda value: not CONTROL.search(value))]],
    _holds(lambda value: value and value[0].strip()),
    Expected('a list of a program and its arguments, such as ["mail", "-s", "nightly", "ops@example.org"]'),
]
Flag = Annotated[bool, Expected("true or false")]
TargetName = Annotated[
    str,
    _holds(lambda value: NAME.fullmatch(value) and not value.endswith(RESERVED)),
    Expected(f"letters, digits, . _ and -, at most 100, as in a file's name, which does not end in {RESERVED}"),
]
Repo = Annotated[str, _holds(lambda value: HUB_ID.fullmatch(value) and ".." not in value), Expected("OWNER/NAME")]
Duration = Annotated[
    float, BeforeValidator(seconds), Expected('a time such as "90 s", "45 min", "2 h" or "90 d", at most 10000 d')
]
Count = Annotated[int, Field(ge=1, le=MAX_THREADS), Expected(f"a whole number from 1 to {MAX_THREADS}")]
Repack = Annotated[str, _is_one_of(REPACK), Expected("one of " + ", ".join(REPACK))]
Products = Annotated[str, _is_one_of(PRODUCTS), Expected("one of " + ", ".join(PRODUCTS))]
Attention = Annotated[str, _is_one_of(ATTENTION), Expected("one of " + ", ".join(ATTENTION))]
LANGUAGES = tuple(dict.fromkeys([*(name for one in systems() for name in one.languages), AUTO_LANGUAGE]))
Language = Annotated[str, _is_one_of(LANGUAGES), Expected("one of " + ", ".join(LANGUAGES))]
Conditions = Annotated[
    list[str],
    Field(min_length=1),
    AfterValidator(_conditions),
    Expected(f"a list of conditions, each once, of the forms {KNOWN}"),
]
Points = Annotated[
    float, Field(ge=0, le=100, allow_inf_nan=False), Expected("points of the error rate, a number from 0 to 100")
]
Seed = Annotated[int, Field(ge=0, le=MOST_SEED), Expected("a whole number of at least 0")]
Moment = Annotated[
    InstanceOf[date],
    AfterValidator(_utc),
    Expected("a date or time without quotes, such as 2026-11-21 or 2026-11-21T03:00:00Z"),
]


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Table(BaseModel):
    """A table: strict types, no unknown keys."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    def given(self, keys: Collection[str] | None = None) -> dict[str, Any]:
        """The keys that are set in the file, of `keys` if given."""
        return self.model_dump(include=None if keys is None else set(keys), exclude_unset=True)


def _metrics_table(name: str, bounds: dict[str, tuple[float, float]]) -> type[Table]:
    """A table with an optional number within bounds per metric."""
    fields: dict[str, Any] = {}
    for metric, (low, high) in bounds.items():
        words = "a number of at least 0" if math.isinf(high) else f"a number from {low:g} to {high:g}"
        number = Annotated[float, Field(ge=low, le=high, allow_inf_nan=False), Expected(words)]
        fields[metric] = (number, None)
    return create_model(name, __base__=Table, **fields)


Tolerances = _metrics_table("Tolerances", dict.fromkeys(METRICS, (0, math.inf)))
StageGates = _metrics_table("StageGates", {name: (metric.low, metric.high) for name, metric in METRICS.items()})


def _check_stages(gates: dict[str, Table]) -> dict[str, Table]:
    for stage, metrics in gates.items():
        if CONTROL.search(stage):
            raise table_error(f"has the key {shown(stage)}", expected="a stage's name")
        if not metrics.given():
            raise table_error(f"{stage} has no gate", expected="a number for one of " + ", ".join(METRICS))
    return gates


class Shared(Table):
    """Settings of all targets, which a target's table can override."""

    timeout: Duration = seconds("45 min")
    threads: Count = Field(default_factory=default_threads)
    repack: Repack = OFF
    products: Products = AUTO
    tolerance: Tolerances = Tolerances()  # type: ignore[valid-type]


class AgreementTable(Table):
    """The [target.agreement] table: clips on which the file may get few more words wrong than the baseline."""

    audio: Texts
    conditions: Conditions = [CLEAN]
    baseline: Text
    tolerance: Points = 1.0
    language: Language = ""
    noise: Text = ""
    seed: Seed = 0
    cluster: Text = ""
    insecure_cluster: Flag = False

    @model_validator(mode="after")
    def _has_a_cluster_that_is_safe(self) -> "AgreementTable":
        if self.insecure_cluster and not self.cluster:
            raise table_error("has insecure_cluster, and no cluster that it belongs to")
        try:
            if self.cluster:
                ClusterAddress(self.cluster, self.insecure_cluster).checked()
        except InputError as error:
            what = f"has the cluster {shown(self.cluster)}"
            if error.expected:  # it is not an address
                raise table_error(what, expected=error.expected) from error
            allowed = "tls://HOST:PORT, or insecure_cluster = true in a network where nobody else is"
            raise table_error(f"{what}, which is not encrypted, and not on this machine", expected=allowed) from error
        return self


class TargetTable(Shared):
    """A [[target]] table as written; empty is not given."""

    name: TargetName
    repo: Repo = ""
    file: Text
    tokenizer: Text = ""
    mmproj: Text = ""
    reference: Text = ""
    reference_tokenizer: Text = ""
    rows: Text = ""
    imatrix: Text = ""
    revision: Text = ""
    checkpoint: Text = ""  # older names of `reference` and `reference_tokenizer`, for what is not a stored reference
    checkpoint_tokenizer: Text = ""
    audio: Texts = [str(JFK)]
    language: Language = ""
    adapter: Text = ""
    context: Text = ""
    attention: Attention = AUTO
    gates: Annotated[dict[str, StageGates], AfterValidator(_check_stages)] = {}  # type: ignore[valid-type]
    compare_since: Moment = ""  # type: ignore[assignment]
    agreement: AgreementTable = None  # type: ignore[assignment]

    @model_validator(mode="after")
    def _has_one_reference(self) -> "TargetTable":
        if bool(self.reference) == bool(self.checkpoint):
            both = bool(self.reference)
            raise table_error(
                f"has {'both' if both else 'neither'} reference {'and' if both else 'nor'} checkpoint",
                expected="one of them, which mean the same: what to compare with",
            )
        return self

    @model_validator(mode="after")
    def _names_one_file_beside(self) -> "TargetTable":
        given = [key for key in COMPANION_KEYS if getattr(self, key)]
        if len(given) > 1:
            expected = "one of them: tokenizer beside a speech LM's file, mmproj beside a text model's for llama.cpp"
            raise table_error(f"has {' and '.join(given)}", expected=expected)
        return self

    @model_validator(mode="after")
    def _has_keys_that_belong_together(self) -> "TargetTable":
        for key, other in TOGETHER.items():
            if getattr(self, key) and not getattr(self, other):
                raise table_error(f"has {key}, and no {other} that it belongs to")
        return self

    @model_validator(mode="after")
    def _names_files_of_the_repository(self) -> "TargetTable":
        for key in ("file", *COMPANION_KEYS, "imatrix"):
            name = getattr(self, key)
            is_path = key == "imatrix" and name.startswith(ON_DISK)
            if self.repo and name and not (is_path or may_be_kept(name)):
                raise table_error(f"{key} is {shown(name)}", expected=HUB_FILE)
        return self

    @model_validator(mode="after")
    def _has_another_file_as_baseline(self) -> "TargetTable":
        baseline = self.agreement.baseline if self.agreement else ""
        if baseline == self.file:
            raise table_error(f"agreement has the baseline {shown(baseline)}, the file itself", expected="another file")
        if self.repo and baseline and not may_be_kept(baseline):
            raise table_error(f"agreement has the baseline {shown(baseline)}", expected=HUB_FILE)
        return self


class NotifyTable(Table):
    """The [notify] table: one of the two ways. No message shows what stands in the place of the variable's name, which
    may be the URL itself."""

    command: Arguments = []
    webhook_env: Any = ""
    transcripts: Flag = False

    @model_validator(mode="before")
    @classmethod
    def _is_a_table(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            raise table_error("is not a table", expected=NOTIFY)
        return values

    @model_validator(mode="after")
    def _names_a_variable(self) -> "NotifyTable":
        named = isinstance(self.webhook_env, str) and VARIABLE.fullmatch(self.webhook_env)
        if self.webhook_env != "" and not named:
            raise table_error(
                "webhook_env is not the name of an environment variable",
                expected="such as MIMO_WEBHOOK; the variable holds the URL",
            )
        return self

    @model_validator(mode="after")
    def _has_one_way(self) -> "NotifyTable":
        if bool(self.command) == bool(self.webhook_env):
            both = bool(self.command)
            what = f"has {'both' if both else 'neither'} command {'and' if both else 'nor'} webhook_env"
            raise table_error(what, expected=f"one of them: {NOTIFY}")
        return self


class ConfigTable(Shared):
    """The whole file."""

    history: Text = "history.sqlite"
    pages: Text = "pages"
    cache: Text = "cache"
    keep: Duration = math.inf
    notify: NotifyTable = None  # type: ignore[assignment]
    target: Annotated[list[TargetTable], Field(min_length=1), Expected("[[target]] tables, at least one")]

    @model_validator(mode="after")
    def _has_a_name_for_each_target(self) -> "ConfigTable":
        [(name, n)] = Counter(target.name for target in self.target).most_common(1)
        if n > 1:
            raise table_error(f"{n} targets are called {name!r}", expected="a name for each")
        return self
