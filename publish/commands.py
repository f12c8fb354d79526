"""The commands that a model card gives: how a file was made, by its own account, and how it is run."""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, NamedTuple

from mimo_convert.models import mimo_asr, mimo_tokenizer
from mimo_convert.plan import REQUANTIZED_BITS
from quantize.quantizer import CONTRACTED, GGML, SIMD
from quantize.recipes import rule_for
from quantize.types import TYPES

Facts = dict[str, Any]  # a file as docs/json.md describes it
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
LONGEST = 88  # characters of a command on one line
LM, TOKENIZER = mimo_asr.FAMILY.file_stem, mimo_tokenizer.FAMILY.file_stem
BETWEEN = "between"  # the folder of files that others are made from


def command(*words: str) -> str:
    """A command for a shell, which takes every word as the one word it is; on several lines if it is long."""
    units: list[str] = []  # an option and its value stay together
    for word in words:
        if units and not word.startswith("-"):
            units[-1] += f" {_quoted(word)}"
        else:
            units.append(_quoted(word))
    lines = units[:1]
    for unit in units[1:]:
        if len(lines[-1]) + len(unit) < LONGEST:
            lines[-1] += f" {unit}"
        else:
            lines.append(unit)
    return " \\\n    ".join(lines)


def path(name: str) -> str:
    """A file's name as an argument that is no option."""
    return f"./{name}" if name.startswith("-") else name


def _quoted(word: str) -> str:
    """As POSIX shells take it; with line breaks and the like as bash and zsh do."""
    if not CONTROL.search(word):
        return shlex.quote(word)
    escaped = re.sub(r"[\\']", r"\\\g<0>", word)
    return "$'" + CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", escaped) + "'"


# ── how files are run, and checked ───────────────────────────────────────────────────────────────────────────────


def download(repo: str, names: Sequence[str]) -> str:
    """From the Hub into this folder."""
    return command("hf", "download", repo, *map(path, names), "--local-dir", ".")


def mimo_check(name: str, tokenizer: str, *options: str) -> str:
    """mimo-check of a speech LM with its audio tokenizer, or of an audio tokenizer alone (`tokenizer` is empty)."""
    return command("mimo-check", path(name), *(["--tokenizer", path(tokenizer)] if tokenizer else []), *options)


def crispasr(name: str, tokenizer: str, sound: str) -> str:
    """CrispASR's command line (github.com/CrispStrobe/CrispASR: README.md, "MiMo-V2.5-ASR")."""
    return command("crispasr", "--backend", "mimo-asr", "-m", path(name), "--codec-model", path(tokenizer), "-f", sound)


def make_reference(source: str, tokenizer: str, target: str) -> str:
    """What PyTorch computes from the checkpoint `source`, beside its audio tokenizer's if it is a speech LM."""
    return command("mimo-check", "reference", source, *(["--tokenizer", tokenizer] if tokenizer else []), "-o", target)


# ── how files were made ──────────────────────────────────────────────────────────────────────────────────────────


class Between(NamedTuple):
    """A GGUF file between another and the checkpoint."""

    type: str
    rules: tuple[str, ...] = ()
    by_ggml: bool = False

    @property
    def options(self) -> list[str]:
        """Those that decide what blocks are made of, and by what."""
        rules = [word for rule in self.rules for word in ("--tensor-type", rule)]
        return [*rules, *(["--quantizer", GGML] if self.by_ggml else [])]


@dataclass(frozen=True)
class Making:
    """What a file says of how it was made; `through` are the GGUF files between it and the checkpoint."""

    source: str
    version: str
    outtype: str
    fused: bool
    asr_only: bool
    rules: tuple[str, ...]
    by_ggml: bool
    through: tuple[Between, ...]

    @property
    def options(self) -> list[str]:
        """Those that decide what blocks are made of, and by what."""
        return Between(self.outtype, self.rules, self.by_ggml).options


@dataclass
class Recipe:
    """Commands that make `files` anew in an empty folder, with one version of mimo-convert (empty: not known which).

    `pinned`: whether each checkpoint is at its commit, which the files record, too.
    """

    version: str
    pinned: bool = True
    commands: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """The commands, with that version before them."""
        return [command("pip", "install", "==".join(filter(None, ("mimo-convert", self.version)))), *self.commands]


@dataclass(frozen=True)
class Reproduction:
    """`recipes`, and `gaps`: for files that do not say enough, (name, what is missing)."""

    recipes: list[Recipe]
    gaps: list[tuple[str, str]]


class _Run(NamedTuple):
    """Files that were made alike, but for their types. `tokenizer` is the one beside them; `whole` if the same command
    makes it as it is, not only one in its place."""

    names: list[str]
    stem: str
    tokenizer: str = ""
    whole: bool = False


def reproduction(lms: Sequence[tuple[str, Facts, str]], tokenizers: dict[str, Facts]) -> Reproduction:
    """How to make the files again: `lms` as (name, facts, name of the audio tokenizer), `tokenizers` name → facts.

    Speech LMs that differ by nothing but their type are made by one command, with their audio tokenizer if that was
    made alike. One that was not is made after them, in the place of the one that came with them.
    """
    every = [*((name, facts) for name, facts, _ in lms), *tokenizers.items()]
    gaps = [(name, gap) for name, facts in every if (gap := _gap(facts))]
    made = {name: making_of(facts) for name, facts in every if not _gap(facts)}
    recipes: dict[str, Recipe] = {}
    for names, stem, tokenizer, whole in _runs(made, lms, tokenizers):
        making, beside = made[names[0]], made.get(tokenizer)
        again = bool(recipes)  # a command that makes a speech LM makes an audio tokenizer, too, which may be there
        recipe = recipes.setdefault(making.version, Recipe(making.version))
        if making.through:
            recipe.commands += [line for name in names for line in _quantize(made[name], beside, name, stem)]
        else:
            types = list(dict.fromkeys(made[name].outtype for name in names))
            recipe.commands.append(_convert(making, types, beside, again=again))
            recipe.commands += [line for name in names for line in _rename(made[name], name, stem)]
        recipe.files += names
        recipe.pinned &= all("@" in made[name].source for name in [*names, *([tokenizer] if whole else [])])
        if whole and tokenizer not in recipe.files:
            recipe.commands += _rename(made[tokenizer], tokenizer, TOKENIZER)
            recipe.files.append(tokenizer)
    return Reproduction(list(recipes.values()), gaps)


def _runs(made: dict[str, Making], lms: Sequence[tuple[str, Facts, str]], tokenizers: dict[str, Facts]) -> list[_Run]:
    """Those that leave the audio tokenizer to a later one come first."""
    groups: dict[tuple[Making, str, bool], list[str]] = {}
    for name, _, beside in lms:
        if name in made:
            whole = beside in made and _alike(made[name], made[beside], tokenizers[beside])
            groups.setdefault((replace(made[name], outtype=""), beside, whole), []).append(name)
    runs = [_Run(names, LM, beside, whole) for (_, beside, whole), names in groups.items()]
    runs.sort(key=lambda run: run.whole)
    covered = {run.tokenizer for run in runs if run.whole}
    return runs + [_Run([name], TOKENIZER) for name in tokenizers if name in made and name not in covered]


def making_of(facts: Facts) -> Making:
    """How a file that says enough (no `_gap`) was made."""
    told = facts["provenance"]
    return Making(
        source=source_of(facts),
        version=told.get("version") or "",
        outtype=facts["outtype"],
        fused=facts.get("layout") == "fused",
        asr_only=facts.get("architecture") == mimo_asr.FAMILY.gguf and bool(facts.get("asr_only")),
        rules=tuple(facts.get("recipe") or ()),
        by_ggml=_by_ggml(facts.get("quantizer")),
        through=tuple(_through(told)),
    )


def _through(told: Facts) -> Iterator[Between]:
    """The files that lay between, the first one first; reports of earlier versions have but their types."""
    types = [{"type": type} for type in told.get("quantized_from") or ()]
    for between in told.get("intermediates") or types:
        own = (between.get("types") or {}).items()
        rules = tuple(str(rule_for(name, TYPES[type], "")) for name, type in own if type in TYPES)
        yield Between(between["type"], rules, _by_ggml(between.get("quantizer")))


def _by_ggml(quantizer: str | None) -> bool:
    """Whether all blocks that we know the maker of are ggml's."""
    names = (quantizer or "").split(" + ")
    return SIMD not in names and (GGML in names or CONTRACTED in names)


def source_of(facts: Facts) -> str:
    """The checkpoint as the commands take it, at its commit where that is known; empty if the file does not say."""
    told = facts.get("provenance") or {}
    return "@".join(filter(None, (told.get("repo"), told.get("revision")))) if told.get("repo") else ""


def _gap(facts: Facts) -> str:
    """What a file would have to say, too, for a command that makes it."""
    if not source_of(facts):
        return "which checkpoint it was made from"
    return "" if facts.get("outtype") in TYPES else "which type it was converted to"


def _alike(lm: Making, tokenizer: Making, facts: Facts) -> bool:
    """Whether one command makes both; an audio tokenizer without blocks (by its `facts`) is so by any quantizer."""
    same_quantizer = lm.by_ggml == tokenizer.by_ggml or not facts.get("quantizer")
    return (
        (lm.version, lm.rules) == (tokenizer.version, tokenizer.rules)
        and same_quantizer
        and not (lm.through or tokenizer.through)
    )


def _convert(making: Making, types: Sequence[str], tokenizer: Making | None, *, again: bool, out: str = ".") -> str:
    """mimo-convert of a checkpoint; `again` if files may be there that it writes anew."""
    beside: list[str] = []
    if tokenizer:
        beside = ["--tokenizer", tokenizer.source]
        beside += ["--tokenizer-outtype", tokenizer.outtype] if tokenizer.outtype != types[0] else []
    flags = {"--fuse-qkv": making.fused, "--asr-only": making.asr_only}
    return command(
        "mimo-convert", making.source, *beside,
        *(word for type in types for word in ("--outtype", type)),
        *(flag for flag, is_set in flags.items() if is_set),
        *making.options, "--out", out, "--no-check", *(["--force"] if again else []),
    )  # fmt: skip


def _rename(making: Making, name: str, stem: str) -> list[str]:
    """Give a file the name it has here, if mimo-convert calls it otherwise."""
    usual = f"{stem}-{making.outtype}.gguf"
    return [] if name == usual else [command("mv", usual, path(name))]


def _quantize(making: Making, tokenizer: Making | None, name: str, stem: str) -> list[str]:
    """mimo-convert to the first type that lay between, and mimo-quantize from each to the next.

    Q, K and V are fused at the end, if they are: rules of files between have their names.
    """
    first, *others = making.through
    files = [f"{BETWEEN}/{stem}-{first.type}.gguf"]
    files += [f"{BETWEEN}/{stem}-{number}-{between.type}.gguf" for number, between in enumerate(others, 2)]
    of_first = replace(making, rules=first.rules, by_ggml=first.by_ggml, fused=False)
    lines = [_convert(of_first, [first.type], tokenizer, again=True, out=BETWEEN)]
    last = Between(making.outtype, making.rules, making.by_ggml)
    for (before, source), (after, target) in pairwise(zip((*making.through, last), (*files, path(name)), strict=True)):
        fuse = ["--fuse-qkv"] if after is last and making.fused else []
        insist = ["--allow-requantize"] if _is_low(before) else []
        lines.append(command("mimo-quantize", source, target, "--outtype", after.type, *fuse, *after.options, *insist))
    return lines


def _is_low(between: Between) -> bool:
    """Whether mimo-quantize must be told to insist on making others of it."""
    types = [between.type, *(rule.rpartition("=")[2] for rule in between.rules)]
    return any(type in TYPES and TYPES[type].bits_per_weight < REQUANTIZED_BITS for type in types)
