"""Commands of a model card: how a file was made, as recorded in it, and how to run it."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple

from mimo_convert.installation import installation
from mimo_convert.model.provenance import Provenance, is_since
from mimo_convert.plan.bind import REQUANTIZED_BITS
from mimo_convert.plan.variant import MIX
from mimo_convert.plan.variant import file_name as name_of
from mimo_families.parts import WITH, WITHOUT, spelled
from mimo_families.registry import families, systems
from quantize.backends import CONTRACTED, GGML, SIMD
from quantize.recipes import rule_for
from quantize.types import TYPES
from runtime_check.report.records import Report, file_name
from runtime_check.run.records import FileFacts
from runtime_check.run.system import Runtime, SystemType

from .from_hub import FromHub, adapter_of, adapter_options, has_lost_adapter
from .shell import command, path
from .used_imatrix import UsedImatrix, lost_imatrix, used_imatrix

COMPANION = "{companion}"  # in a runtime's command
BETWEEN = "between"  # the folder of files that others are made from
PARTS_SINCE = (0, 8)  # the version from which on parts have names, and audio tokenizers a decoder
PAIRED_SINCE = (0, 8)  # the version from which on types have their own companions, and mixes names of their own


# ── how files are run, and checked ───────────────────────────────────────────────────────────────────────────────


def download(repo: str, names: Sequence[str]) -> str:
    """The command that downloads files from the Hub."""
    return command("hf", "download", repo, *map(path, names), "--local-dir", ".")


def mimo_check(name: str, tokenizer: str, *options: str) -> str:
    """The mimo-check command of a file; `tokenizer` is its audio tokenizer, empty if none."""
    return command("mimo-check", path(name), *(["--tokenizer", path(tokenizer)] if tokenizer else []), *options)


def run(name: str, tokenizer: str, clip: str, *, transcribes: bool) -> str:
    """The command that runs a file on a clip: it prints the words alone if it `transcribes`."""
    if not transcribes:
        return mimo_check(name, tokenizer, "--audio", clip)
    beside = ["--tokenizer", path(tokenizer)] if tokenizer else []
    return command("mimo-check", "transcribe", path(name), *beside, "--audio", clip)


def elsewhere(facts: FileFacts, name: str, companion: str, clip: str) -> list[tuple[Runtime, str]]:
    """Other runtimes for a file, with their commands, which always name the companion: what a runtime finds by itself
    depends on names. None that needs a companion where there is none."""
    system = system_with(facts.architecture)
    words = {"file": path(name), "companion": path(companion), "clip": clip}
    runtimes = system.runtimes if system else ()
    return [
        (one, command(*(word.format(**words) for word in one.command)))
        for one in runtimes
        if companion or COMPANION not in one.command
    ]


def runtime_hints(report: Report, published: Collection[str]) -> Iterator[str]:
    """A line for each runtime that finds a companion only by a name that none of the published files has."""
    beside = {check.main.architecture: check.files[1] for check in reversed(report.checks) if len(check.files) > 1}
    for architecture, companion in beside.items():
        system = system_with(architecture)
        for runtime in system.runtimes if system else ():
            if runtime.finds and runtime.finds not in published:
                told = f"{runtime.companion_option} {file_name(companion.file)}"
                yield f"{runtime.name} looks for {runtime.finds}, which is not among the files: give it {told}"


def system_with(architecture: str) -> SystemType | None:
    """The system whose main file is of that architecture, else the one that has such a companion; None if there is
    none."""
    main_first = sorted(systems(), key=lambda one: one.family.architecture != architecture)
    return next((one for one in main_first if architecture in {family.architecture for family in one.families}), None)


def reference_of(main: str, companion: str, architecture: str) -> tuple[str, str]:
    """The checkpoints of a file of that architecture and of its companion; only one where both are made of one."""
    system = system_with(architecture)
    return main, "" if system and system.layout_of else companion


def make_reference(source: str, tokenizer: str, target: str, told: Provenance) -> list[str]:
    """The commands that store a PyTorch reference of the checkpoint `source`, for a file of that provenance."""
    beside, adapter = ["--tokenizer", tokenizer] if tokenizer else [], adapter_of(told)
    named = ["--adapter", path(adapter.folder)] if adapter else adapter_options(told)
    made = command("mimo-check", "reference", source, *beside, *named, "-o", target)
    return [adapter.download, made] if adapter else [made]


# ── how files were made ──────────────────────────────────────────────────────────────────────────────────────────


class Between(NamedTuple):
    """An intermediate GGUF file."""

    type: str
    rules: tuple[str, ...] = ()
    by_ggml: bool = False
    recipe: str = ""
    imatrix: str = ""
    target: tuple[str, ...] = ()

    @property
    def types(self) -> list[str]:
        """The options that determine its type, where there are no rules."""
        if self.target:
            return list(self.target)
        return ["--recipe", self.recipe] if self.recipe else ["--outtype", self.type]

    @property
    def options(self) -> list[str]:
        """The options that determine its blocks otherwise."""
        rules = [word for rule in self.rules for word in ("--tensor-type", rule)]
        option = "--calibration" if self.target else "--imatrix"  # which is both
        imatrix = [option, path(self.imatrix)] if self.imatrix else []
        return [*rules, *imatrix, *(["--quantizer", GGML] if self.by_ggml else [])]


@dataclass(frozen=True)
class Making:
    """How a file was made, as recorded in it: by a named `recipe` and the `rules` besides, or for a given size, which
    the options `target` ask for; `through` are the intermediate GGUF files, `adapter` one that is not in the repository
    of its base, `adapter_options` what the command says of adapters, `imatrix` the importance matrix."""

    source: str
    version: str
    outtype: str
    fused: bool
    without: tuple[str, ...]
    rules: tuple[str, ...]
    by_ggml: bool
    through: tuple[Between, ...]
    architecture: str
    stem: str = ""
    variant: str = ""
    recipe: str = ""
    target: tuple[str, ...] = ()
    adapter: FromHub | None = None
    adapter_options: tuple[str, ...] = ()
    imatrix: UsedImatrix | None = None

    @property
    def last(self) -> Between:
        """The file itself."""
        imatrix = self.imatrix.name if self.imatrix else ""
        return Between(self.outtype, self.rules, self.by_ggml, self.recipe, imatrix, self.target)


@dataclass
class Recipe:
    """Commands that reproduce `files` with one version of mimo-convert (empty: unknown), in a folder that holds the
    importance matrices `imatrices` alone.

    `pinned`: each checkpoint is given by commit.
    """

    version: str
    pinned: bool = True
    commands: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    imatrices: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """The commands, after the installation of that version."""
        return [installation(version=self.version).line, *self.commands]


@dataclass(frozen=True)
class Reproduction:
    """`recipes`, and `gaps`: for files with incomplete records, (name, what is missing)."""

    recipes: list[Recipe]
    gaps: list[tuple[str, str]]


class _Run(NamedTuple):
    """Files that differ only in type. `tokenizer` is their companion; `whole` if the same command reproduces it."""

    names: list[str]
    stem: str
    tokenizer: str = ""
    whole: bool = False


def reproduction(lms: Sequence[tuple[str, FileFacts, str]], tokenizers: dict[str, FileFacts]) -> Reproduction:
    """Reproduce files: `lms` are (name, facts, name of the audio tokenizer), `tokenizers` map names to facts.

    Speech LMs that differ only in type are made by one command, with their audio tokenizer if it was made alike;
    otherwise it is made after them and replaces theirs.
    """
    every = [*((name, facts) for name, facts, _ in lms), *tokenizers.items()]
    gaps = [(name, gap) for name, facts in every if (gap := _gap(facts))]
    made = {name: making_of(facts) for name, facts in every if not _gap(facts)}
    recipes: dict[str, Recipe] = {}
    for names, stem, tokenizer, whole in _runs(made, lms, tokenizers):
        making, beside = made[names[0]], made.get(tokenizer)
        again = bool(recipes)  # a command that makes a speech LM makes an audio tokenizer, too, which may be there
        recipe = recipes.setdefault(making.version, Recipe(making.version))
        if making.adapter and making.adapter.download not in recipe.commands:
            recipe.commands.append(making.adapter.download)
        if making.imatrix and making.imatrix.name not in recipe.imatrices:
            recipe.imatrices.append(making.imatrix.name)
            recipe.commands.append(making.imatrix.check)
        if making.through:
            recipe.commands += [line for name in names for line in _quantize(made[name], beside, name, stem)]
        else:
            types = list(dict.fromkeys(made[name].outtype for name in names))
            recipe.commands.append(_convert(making, types, beside, again=again))
            recipe.commands += [line for name in names for line in _rename(made[name], name, stem)]
        recipe.files += names
        sources = [made[name].source for name in [*names, *([tokenizer] if whole else [])]]
        sources += [making.adapter.model] if making.adapter else []
        recipe.pinned &= all("@" in source for source in sources)
        if whole and tokenizer not in recipe.files:
            recipe.commands += _rename(made[tokenizer], tokenizer, stem_of(tokenizers[tokenizer]))
            recipe.files.append(tokenizer)
    return Reproduction(list(recipes.values()), gaps)


def _runs(
    made: dict[str, Making], lms: Sequence[tuple[str, FileFacts, str]], tokenizers: dict[str, FileFacts]
) -> list[_Run]:
    """Group files; runs that leave the audio tokenizer to a later one come first."""
    groups: dict[tuple[Making, str, bool], list[str]] = {}
    for name, _, beside in lms:
        if name in made:
            whole = beside in made and _alike(made[name], made[beside], tokenizers[beside])
            groups.setdefault((replace(made[name], outtype=""), beside, whole), []).append(name)
    stems = {name: stem_of(facts) for name, facts, _ in lms} | {name: stem_of(f) for name, f in tokenizers.items()}
    runs = [_Run(names, stems[names[0]], beside, whole) for (_, beside, whole), names in groups.items()]
    runs.sort(key=lambda run: run.whole)
    covered = {run.tokenizer for run in runs if run.whole}
    return runs + [_Run([name], stems[name]) for name in tokenizers if name in made and name not in covered]


def making_of(facts: FileFacts) -> Making:
    """How a file was made; requires complete records (no `_gap`)."""
    return Making(
        source=source_of(facts),
        version=facts.provenance.version,
        outtype=facts.outtype,
        fused=facts.layout == "fused",
        without=facts.without,
        rules=facts.own_rules if facts.recipe_name or facts.chosen else facts.recipe,
        by_ggml=_by_ggml(facts.quantizer),
        through=tuple(_through(facts.provenance)),
        architecture=facts.architecture,
        stem=stem_of(facts),
        variant=facts.variant,
        recipe=facts.recipe_name,
        target=facts.chosen.options if facts.chosen else (),
        adapter=adapter_of(facts.provenance),
        adapter_options=tuple(adapter_options(facts.provenance)),
        imatrix=used_imatrix(facts.provenance),
    )


def _through(told: Provenance) -> Iterator[Between]:
    """The intermediate files, in order."""
    for between in told.intermediates:
        own = between.types.items()
        rules = tuple(str(rule_for(name, TYPES[one], "")) for name, one in own if one in TYPES)
        yield Between(between.type, rules, _by_ggml(between.quantizer))


def _by_ggml(quantizer: str) -> bool:
    """Whether all known backends are ggml."""
    names = quantizer.split(" + ")
    return SIMD not in names and (GGML in names or CONTRACTED in names)


def source_of(facts: FileFacts) -> str:
    """The checkpoint as an argument, by commit if it is known; empty if it is not recorded."""
    told = facts.provenance
    return "@".join(filter(None, (told.repo, told.revision))) if told.repo else ""


def stem_of(facts: FileFacts) -> str:
    """The file name stem of a model; empty if unknown. Reports of earlier versions do not have it."""
    by_architecture = {family.architecture: family.file_stem for family in families()}
    return facts.stem or by_architecture.get(facts.architecture, "")


def _gap(facts: FileFacts) -> str:
    """What a file's record lacks for reproduction; empty if nothing."""
    if not source_of(facts):
        return "which checkpoint it was made from"
    if not stem_of(facts):
        return "which model it is of"
    if has_lost_adapter(facts.provenance):
        return "where its adapter is from"
    if lost := lost_imatrix(facts):
        return lost
    return "" if facts.outtype in TYPES else "which type it was converted to"


def _alike(lm: Making, tokenizer: Making, facts: FileFacts) -> bool:
    """Whether one command makes both; an audio tokenizer without blocks fits any backend."""
    same_quantizer = lm.by_ggml == tokenizer.by_ggml or not facts.quantizer
    variant = lm.variant if tokenizer.rules else ""
    return (
        (lm.version, lm.rules, variant) == (tokenizer.version, tokenizer.rules, tokenizer.variant)
        and same_quantizer
        and not (lm.through or tokenizer.through)
    )


def _convert(making: Making, types: Sequence[str], tokenizer: Making | None, *, again: bool, out: str = ".") -> str:
    """The mimo-convert command; `again` if it overwrites files."""
    beside: list[str] = []
    system = system_with(making.architecture)
    runtime = system.runtime if system and system.layout_of else ""
    if tokenizer:
        beside = [] if runtime else ["--tokenizer", tokenizer.source]  # else both are made of one checkpoint
        default = _companion_types(making, types)
        beside += ["--tokenizer-outtype", tokenizer.outtype] if default != {tokenizer.outtype} else []
    beside += ["--runtime", runtime] if runtime else []
    return command(
        "mimo-convert", making.source, *beside, *making.adapter_options,
        *(word for ggml_type in types for word in Between(ggml_type, recipe=making.recipe, target=making.target).types),
        *(["--fuse-qkv"] if making.fused else []), *_parts(making, tokenizer),
        *making.last.options, *(["--name", making.variant] if making.variant else []),
        "--out", out, "--no-check", *(["--force"] if again else []),
    )  # fmt: skip


def _parts(making: Making, tokenizer: Making | None) -> Iterator[str]:
    """The options that name parts of the files: those that the command would not write, or leave out, by itself."""
    system = system_with(making.architecture)
    every = {family.architecture: family for family in (system.families if system else ())}
    made = [(every[one.architecture], one) for one in (making, tokenizer) if one and one.architecture in every]
    by_default = made[0][0].edition_called(making.stem).left_out if made else frozenset[str]()
    for family, one in made:
        for name, part in family.parts.items():
            lacks = name in one.without
            if not is_since(making.version, PARTS_SINCE):
                yield from [part.option] if part.option and lacks and one is making else []
            elif part.option and lacks is not (name in by_default):
                yield from (WITHOUT if lacks else WITH, spelled(name))


def _companion_types(making: Making, types: Sequence[str]) -> set[str]:
    """The types of audio tokenizers that the command makes if none is said."""
    system = system_with(making.architecture)
    if system is None or not is_since(making.version, PAIRED_SINCE):
        return {types[0]}
    return {system.companion_type(TYPES[name]).name for name in types}


def _usual_name(making: Making, stem: str) -> str:
    """The name that mimo-convert gives a file."""
    variant = making.variant or (MIX if making.rules else "")
    spelled = next((one.spelled for one in families() if one.architecture == making.architecture), str)
    return name_of(
        stem, spelled(making.recipe or making.outtype), variant if is_since(making.version, PAIRED_SINCE) else ""
    )


def _rename(making: Making, name: str, stem: str) -> list[str]:
    """Rename a file from mimo-convert's default name."""
    usual = _usual_name(making, stem)
    return [] if name == usual else [command("mv", usual, path(name))]


def _quantize(making: Making, tokenizer: Making | None, name: str, stem: str) -> list[str]:
    """mimo-convert to the first intermediate type, then mimo-quantize step by step.

    Q, K and V are fused last: rules of intermediate files use their separate names.
    """
    first, *others = making.through
    of_first = replace(
        making, outtype=first.type, rules=first.rules, by_ggml=first.by_ggml, fused=False, variant="",
        recipe="", target=(), imatrix=None,
    )  # fmt: skip
    files = [f"{BETWEEN}/{_usual_name(of_first, stem)}"]
    files += [f"{BETWEEN}/{stem}-{number}-{between.type}.gguf" for number, between in enumerate(others, 2)]
    lines = [_convert(of_first, [first.type], tokenizer, again=True, out=BETWEEN)]
    last = making.last
    for (before, source), (after, target) in pairwise(zip((*making.through, last), (*files, path(name)), strict=True)):
        fuse = ["--fuse-qkv"] if after is last and making.fused else []
        insist = ["--allow-requantize"] if _is_low(before) else []
        lines.append(command("mimo-quantize", source, target, *after.types, *fuse, *after.options, *insist))
    return lines


def _is_low(between: Between) -> bool:
    """Whether mimo-quantize needs --allow-requantize for it."""
    types = [between.type, *(rule.rpartition("=")[2] for rule in between.rules)]
    return any(ggml_type in TYPES and TYPES[ggml_type].bits_per_weight < REQUANTIZED_BITS for ggml_type in types)
