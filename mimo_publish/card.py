"""Model card of a Hub repository: a report (docs/json.md) → README.md, deterministic.

The card is card.md.j2, or the publisher's own template. card_parts.py provides files, sections/ what the sections show,
reproduction.py commands; markdown.py escapes untrusted text.
"""

import re
from collections.abc import Hashable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from traceback import walk_tb
from typing import Any, NamedTuple, TypeVar

import jinja2
from huggingface_hub import ModelCard, ModelCardData, constants
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from jinja2.sandbox import SandboxedEnvironment

from mimo_agreement.records import Agreement
from mimo_convert import numbers_text
from mimo_convert.installation import PROJECT, home_page, installation
from mimo_convert.model.provenance import NO_PROVENANCE
from quantize.errors import InputError
from runtime_check.report.page.parts import compared_with, role_name, verdict_word
from runtime_check.report.records import Report, file_name
from runtime_check.report.safe_text import safe
from runtime_check.report.suites import LINT, TENSORS

from . import markdown, reproduction
from .card_parts import File, published_files
from .from_hub import has_lost_adapter
from .sections import metadata
from .sections.agreement import AgreementView, view_of
from .sections.choice import Choice, choices_of, columns_of, rule_of, shown
from .sections.plots import chosen_files, layer_plots
from .sections.speech import heads_of, utterances_of
from .sections.stages import stage_tables
from .sections.transcripts import transcripts_of
from .shell import command
from .used_imatrix import imatrices_of

TEMPLATE = Path(__file__).with_name("card.md.j2")
BEGIN = "<!-- mimo-publish: your own text from here -->"
END = "<!-- mimo-publish: to here -->"
MARKER = re.compile(rf"^[ \t]*({re.escape(BEGIN)}|{re.escape(END)})[ \t]*\r?$", re.MULTILINE)

LIBRARY = "gguf"  # what the Hub calls the format; its list of libraries has no ggml runtime for speech
RESPONDS, ENCODES = "automatic-speech-recognition", "feature-extraction"  # pipelines of the Hub
TAGS = ("gguf", "ggml")
REASONS = 3  # of a file, that are named at the card's top
TRANSCRIPTS = 3  # clips whose transcripts are shown; word error rates are shown of all
Key = TypeVar("Key", bound=Hashable)
CLIP, REFERENCE, SUMS = "clip.wav", "jfk-reference.safetensors", "SHA256SUMS"  # in commands


def as_card(report: Report, template: Path | None = None, own: str = "", agreement: Agreement | None = None) -> str:
    """Render README.md, with the publisher's `own` paragraphs in their place, and an `agreement` of published files.

    Raises InputError if the files do not record their base model, for an invalid template, and for own text that
    contains a marker.
    """
    if MARKER.search(own):
        raise InputError("your own text", f"has a line that is {BEGIN} or {END}", todo="take that line out of it")
    template = template or TEMPLATE
    told: Report = safe(report)
    card = _render(template, {**_values(told, own), "agreement": _agreement_view(agreement)})
    _check_metadata(card, template)
    with suppress(InputError):
        if own_text(card) == own:
            return card
    raise InputError(template, "does not keep your own text", expected="{{ own_part }}, once, on a line of its own")


def _check_metadata(card: str, template: Path) -> None:
    """Raise InputError unless the Hub's library can parse the card's metadata."""
    todo = "let {{ front_matter }} be its first line"
    if not REGEX_YAML_BLOCK.search(card):
        raise InputError(template, "has no metadata at its top", todo=todo)
    try:
        ModelCard(card)
    except Exception as error:  # YAML's own, or the library's
        raise InputError(template, f"what is between its --- lines is no metadata: {error}", todo=todo) from error


def as_plots(report: Report, agreement: Agreement | None = None) -> dict[str, str]:
    """The card's plots: file name → SVG."""
    told: Report = safe(report)
    files = published_files(told)
    view = _agreement_view(agreement)
    of_agreement = view.plots if view else ()
    plots = [*layer_plots(files), *(one.plot for one in chosen_files(files) if one.plot), *of_agreement]
    return {plot.file: plot.svg for plot in plots}


def _agreement_view(agreement: Agreement | None) -> AgreementView | None:
    return view_of(safe(agreement)) if agreement else None


def own_text(card: str) -> str | None:
    """The text between the markers of a card, verbatim; None without markers.

    Raises InputError unless there is one of each, in order.
    """
    found = list(MARKER.finditer(card))
    if not found:
        return None
    if [marker[1] for marker in found] != [BEGIN, END]:
        lines = ", ".join(str(card.count("\n", 0, marker.start()) + 1) for marker in found)
        raise InputError(
            "README.md", f"the markers of your own text are not one of each, in order (line {lines})",
            expected=f"{BEGIN} and {END}, each on a line of its own", todo="put them around your own text",
        )  # fmt: skip
    return card[found[0].end() : found[1].start()].removeprefix("\n").removesuffix("\n")


# ── what the template is given ───────────────────────────────────────────────────────────────────────────────────


class Counts(NamedTuple):
    """Numbers of gates, failed gates, files, and those that were compared."""

    gates: int
    failed_gates: int
    files: int
    compared: int


class Base(NamedTuple):
    """A base model on the Hub, and what it is."""

    repo: str
    role: str


class Failure(NamedTuple):
    """Files that failed alike: the number of failed gates of each, and the reasons."""

    files: list[str]
    n_failed: int
    n_gates: int
    reasons: list[tuple[str, str]]


def _values(report: Report, own: str) -> dict[str, Any]:
    if not report.publication:
        raise InputError("report", "does not say where the files are to be published", todo="use mimo-publish")
    repo = report.publication.repo
    files = published_files(report)
    lms, companions = ([file for file in files if file.checks and file.responds is main] for main in (True, False))
    bases = _base_models(files, report.publication.base_model)
    choices = choices_of(files)
    chosen = shown(choices)
    made = reproduction.reproduction(
        [(lm.name, lm.facts, next(iter(lm.beside), "")) for lm in lms if lm.facts],
        {file.name: file.facts for file in companions if file.facts},
    )
    checked = [file for file in files if file.checks]
    plots = layer_plots(files)
    return {
        "report": report,
        "HUB": constants.ENDPOINT,
        "front_matter": _front_matter(repo, files, bases),
        "own_part": f"{BEGIN}\n{own}\n{END}",
        "title": repo.rpartition("/")[2],
        "bases": bases,
        "files": files,
        "lms": lms,
        "choices": choices,
        "columns": columns_of(choices),
        "chosen": chosen,
        "companions": _companions(choices),
        "rule": rule_of(choices),
        "failed": [file for file in files if file.failed],
        "failures": _failures(files),
        "uncompared": [file.name for file in files if file.passed is None],
        "counts": Counts(
            sum(len(f.cases) for f in files),
            sum(len(f.failed) for f in files),
            len(files),
            sum(f.passed is not None for f in files),
        ),
        "compared_with": compared_with(checked[0].checks[0]) if checked else "",
        "examined": _alike((file.name, _examined(file)) for file in files if file.suites),
        "clips": transcripts_of(files),
        "utterances": utterances_of(files),
        "heads": heads_of(files),
        "tables": stage_tables(files),
        "chosen_files": chosen_files(files),
        "plots": sorted(plots, key=lambda plot: plot.name != chosen.file.name),
        "made": made,
        "imatrices": imatrices_of((file.name, file.facts.provenance) for file in files if file.facts),
        "tool": PROJECT,
        "tool_url": home_page(),
        "shards": _shards(files),
        **_how_to(repo, chosen, lms, companions),
    }


def _how_to(repo: str, chosen: Choice, lms: list[File], companions: list[File]) -> dict[str, Any]:
    """Commands to download, run and verify the files of one row."""
    name, beside = chosen.file.name, next(iter(chosen.file.beside), "")
    facts = chosen.file.facts
    lm, companion = (next(filter(None, map(_source, half)), "") for half in (lms, companions))
    whole = []
    told = facts.provenance if facts else NO_PROVENANCE
    if (lm or companion) and not has_lost_adapter(told):
        architecture = facts.architecture if facts else ""
        of_both = reproduction.reference_of(lm or companion, companion if lm else "", architecture)
        whole = reproduction.make_reference(*of_both, REFERENCE, told)
    return {
        "download": reproduction.download(repo, [name, beside] if beside else [name]),
        "install": installation().line,
        "install_reference": installation("reference").phrase,
        "run": reproduction.run(name, beside, CLIP, transcribes=chosen.file.responds),
        "run_elsewhere": reproduction.elsewhere(facts, name, beside, CLIP) if facts else [],
        "verify": [
            reproduction.download(repo, [SUMS]),
            command("sha256sum", "--check", "--ignore-missing", SUMS),
            *(reproduction.mimo_check(file.name, "", "--static") for file in chosen.files),
        ],
        "verify_whole": [*whole, reproduction.mimo_check(name, beside, "--reference", REFERENCE)] if whole else [],
    }


def _companions(choices: list[Choice]) -> list[File]:
    """The companions of every row, if they are the same."""
    found = {tuple(file.name for file in row.companions) for row in choices}
    return list(choices[0].companions) if len(found) == 1 else []


def _failures(files: list[File]) -> list[Failure]:
    """Files that failed, those that did so for the same reasons together."""
    return [
        Failure(names, len(reasons), n_gates, list(reasons))
        for (n_gates, reasons), names in _grouped(
            (file.name, (len(file.cases), tuple((case.name, case.summary) for case in file.failed)))
            for file in files if file.failed
        )
    ]  # fmt: skip


def _alike(found: Iterable[tuple[str, str]]) -> list[tuple[list[str], str]]:
    """Names with what is said of each, those with the same together."""
    return [(names, said) for said, names in _grouped(found)]


def _grouped(found: Iterable[tuple[str, Key]]) -> list[tuple[Key, list[str]]]:
    """Names by what belongs to them, in order."""
    groups: dict[Key, list[str]] = {}
    for name, key in found:
        groups.setdefault(key, []).append(name)
    return list(groups.items())


def _source(file: File) -> str:
    return reproduction.source_of(file.facts) if file.facts else ""


def _examined(file: File) -> str:
    """Results of a file's lint and tensor comparison."""
    what = {LINT: "lint rules", TENSORS: "tensors compared with their source"}
    return "; ".join(
        f"{len(suite.cases) - (suite.kind == TENSORS)} {what[suite.kind]}, "  # of tensors, one case is the whole file
        f"{f'**{len(suite.failed)} failed**' if suite.failed else 'none failed'}"
        for suite in file.suites
    )


def _front_matter(repo: str, files: list[File], bases: list[Base]) -> str:
    """The card's YAML metadata, written by the Hub's library."""
    about = [file.facts.about for file in files if file.facts]
    pipeline = RESPONDS if any(file.responds for file in files) else ENCODES
    data = ModelCardData(
        license=next((metadata.licence(a["license"]) for a in about if a.get("license")), None),
        language=sorted({one for a in about for one in metadata.languages(a.get("languages"))}) or None,
        pipeline_tag=pipeline if about else None,
        library_name=LIBRARY,
        base_model=[base.repo for base in bases] if len(bases) > 1 else bases[0].repo,
        base_model_relation="quantized",
        quantized_by=repo.partition("/")[0],
        tags=sorted({*TAGS, *(tag for a in about for tag in metadata.tags(a.get("tags")))}),
    )
    return f"---\n{data.to_yaml()}\n---"


def _base_models(files: list[File], said: str | None) -> list[Base]:
    """The base models that files record, in order, each with its adapter; `said`, the publisher's, is for files that
    record none."""
    bases: dict[str, Base] = {}
    for file in files:
        repo = (file.facts.provenance.repo if file.facts else "") or said
        if repo:
            bases.setdefault(repo, Base(repo, _within(role_name(file.role)) if file.role else ""))
        adapter = file.facts.provenance.adapter_model.partition("@")[0] if file.facts else ""
        if adapter:
            bases.setdefault(adapter, Base(adapter, "adapter"))
    if not bases:
        names = " and ".join(file.name for file in files) or "the publication"
        raise InputError(names, "no file says which model on the Hub it was made from",
                         todo="convert from the Hub id, or say it: --base-model OWNER/NAME")  # fmt: skip
    return list(bases.values())


def _within(heading: str) -> str:
    """A heading within a sentence."""
    return heading[:1].lower() + heading[1:]


def _shards(files: list[File]) -> list[tuple[str, dict[str, str]]]:
    """Checkpoint → shard → sha256, each checkpoint once."""
    told = [(_source(file), dict(file.facts.provenance.shards)) for file in files if file.facts]
    return list({source: (source, shards) for source, shards in told if source and shards}.values())


# ── templates ────────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def _environment() -> SandboxedEnvironment:
    """A sandboxed Jinja environment: templates may be untrusted, and undefined names are errors."""
    environment = SandboxedEnvironment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent), undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= numbers_text.FILTERS | {
        "text": markdown.text, "code": markdown.code, "url": markdown.url, "block": markdown.block,
        "verdict": verdict_word, "file_name": file_name,
    }  # fmt: skip
    environment.globals |= {"REASONS": REASONS, "TRANSCRIPTS": TRANSCRIPTS, "NBSP": "\N{NO-BREAK SPACE}"}
    return environment


def _render(path: Path, values: dict[str, Any]) -> str:
    """Render the template at `path`. Raises InputError for errors in a publisher's template."""
    environment = _environment()
    if path == TEMPLATE:
        return environment.get_template(path.name).render(values)
    try:
        source = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(path, f"cannot be read: {reason}", expected="a Jinja template of a card") from error
    try:
        compiled = environment.compile(source, str(path), str(path))
        return jinja2.Template.from_code(environment, compiled, environment.make_globals(None)).render(values)
    except jinja2.TemplateSyntaxError as error:
        raise InputError(f"{error.filename or path}:{error.lineno}", str(error.message)) from error
    except Exception as error:  # whatever its expressions can do wrong
        what = str(error) or type(error).__name__
        raise InputError(f"{path}:{_line(error, path)}", what, todo=f"what there is to use: {TEMPLATE}") from error


def _line(error: BaseException, path: Path) -> int:
    """The line of the template at which an error occurred."""
    lines = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == str(path)]
    return lines[-1] if lines else 1
