"""The model card of a Hub repository: a JSON report (docs/json.md) → README.md. The same bytes for the same report.

The card is card.md.j2, or a publisher's own template. Here are its metadata, and what fills it: card_parts.py has
files, stages and transcripts, commands.py commands, layer_plots.py plots; markdown.py escapes what others wrote.
"""

import re
from contextlib import suppress
from functools import cache
from pathlib import Path
from traceback import walk_tb
from typing import Any, NamedTuple

import jinja2
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from jinja2.sandbox import SandboxedEnvironment

from quantize.errors import InputError
from runtime_check import page_numbers
from runtime_check.page_parts import CheckView, verdict_word
from runtime_check.safe_text import safe
from runtime_check.verdicts import Report

from . import commands, markdown, metadata
from .card_parts import LM, TOKENIZER, File, published_files, sounds_of, stage_tables
from .layer_plots import layer_plots

TEMPLATE = Path(__file__).with_name("card.md.j2")
BEGIN = "<!-- mimo-publish: your own text from here -->"
END = "<!-- mimo-publish: to here -->"
MARKER = re.compile(rf"^[ \t]*({re.escape(BEGIN)}|{re.escape(END)})[ \t]*\r?$", re.MULTILINE)

HUB = "https://huggingface.co"
LIBRARY = "gguf"  # what the Hub calls the format; its list of libraries has no ggml runtime for speech
PIPELINES = {LM: "automatic-speech-recognition", TOKENIZER: "feature-extraction"}  # the first whose files there are
TAGS = ("gguf", "ggml")
REASONS = 3  # of a file, that are named at the card's top
TRANSCRIPTS = 3  # sounds of which it is shown what was heard; of all, how much of it was wrong
SOUND, REFERENCE, SUMS = "sound.wav", "jfk-reference.safetensors", "SHA256SUMS"  # in commands


def as_card(report: Report, template: Path | None = None, own: str = "") -> str:
    """The whole README.md, with the publisher's `own` paragraphs in their place.

    Raises InputError if the files do not say what they are made of, for a template that cannot be used, and for own
    text that holds a marker.
    """
    if MARKER.search(own):
        raise InputError("your own text", f"has a line that is {BEGIN} or {END}", todo="take that line out of it")
    template = template or TEMPLATE
    card = _render(template, _values(safe(report), own))
    _check_metadata(card, template)
    with suppress(InputError):
        if own_text(card) == own:
            return card
    raise InputError(template, "does not keep your own text", expected="{{ own_part }}, once, on a line of its own")


def _check_metadata(card: str, template: Path) -> None:
    """As the Hub reads it, whatever a template made of it."""
    todo = "let {{ front_matter }} be its first line"
    if not REGEX_YAML_BLOCK.search(card):
        raise InputError(template, "has no metadata at its top", todo=todo)
    try:
        ModelCard(card)
    except Exception as error:  # YAML's own, or the library's
        raise InputError(template, f"what is between its --- lines is no metadata: {error}", todo=todo) from error


def as_plots(report: Report) -> dict[str, str]:
    """The files that the card shows as pictures: name → SVG."""
    return {plot.file: plot.svg for plot in layer_plots(published_files(safe(report)))}


def own_text(card: str) -> str | None:
    """What stands between the markers of a card, as it is in the file, line ends and all; None if it has no markers.

    Raises InputError unless there is one of each, in order: nobody knows then which text is the publisher's own.
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
    """Gates and files of all that is published; gates that were not reached."""

    gates: int
    failed_gates: int
    files: int


class Pairs(NamedTuple):
    """Speech LMs that were run with the same audio tokenizer."""

    lms: list[str]
    tokenizer: str


def _values(report: Report, own: str) -> dict[str, Any]:
    if not report.get("publication"):
        raise InputError("report", "does not say where the files are to be published", todo="use mimo-publish")
    repo = report["publication"]["repo"]
    files = published_files(report)
    lms, tokenizers = ([file for file in files if file.role == role] for role in (LM, TOKENIZER))
    bases = _base_models(files, report["publication"].get("base_model"))
    made = commands.reproduction(
        [(lm.name, lm.facts, lm.beside) for lm in lms], {file.name: file.facts for file in tokenizers}
    )
    checked = [file for file in files if file.checks]
    return {
        "report": report,
        "front_matter": _front_matter(repo, files, bases),
        "own_part": f"{BEGIN}\n{own}\n{END}",
        "title": repo.rpartition("/")[2],
        "bases": bases,
        "files": files,
        "lms": lms,
        "failed": [file for file in files if file.failed],
        "uncompared": [file.name for file in files if file.passed is None],
        "counts": Counts(sum(len(f.cases) for f in files), sum(len(f.failed) for f in files), len(files)),
        "pairs": [
            Pairs([lm.name for lm in lms if lm.beside == name], name) for name in dict.fromkeys(lm.beside for lm in lms)
        ],
        "compared_with": CheckView(1, checked[0].checks[0]).compared_with if checked else "",
        "examined": [(file.name, _examined(file)) for file in files if file.suites],
        "sounds": sounds_of(files),
        "tables": stage_tables(files),
        "plots": layer_plots(files),
        "made": made,
        "shards": _shards(files),
        **_how_to(repo, files, lms, tokenizers),
    }


def _how_to(repo: str, files: list[File], lms: list[File], tokenizers: list[File]) -> dict[str, Any]:
    """Commands to download, run and verify: shown with the first file that did not fail."""
    shown = next((file for file in lms or files if not file.failed), files[0])
    name, beside = shown.name, shown.beside
    lm, tokenizer = (next(filter(None, (commands.source_of(f.facts) for f in half)), "") for half in (lms, tokenizers))
    whole = [commands.make_reference(lm or tokenizer, tokenizer if lm else "", REFERENCE)] if lm or tokenizer else []
    return {
        "download": commands.download(repo, [name, beside] if beside else [name]),
        "run": commands.mimo_check(name, beside, "--audio", SOUND),
        "run_crispasr": commands.crispasr(name, beside, SOUND) if beside else "",
        "verify": [
            commands.download(repo, [SUMS]),
            commands.command("sha256sum", "--check", "--ignore-missing", SUMS),
            *(commands.mimo_check(file.name, "", "--static") for file in files),
        ],
        "verify_whole": [*whole, commands.mimo_check(name, beside, "--reference", REFERENCE)] if whole else [],
    }


def _examined(file: File) -> str:
    """What was found in a file without running it."""
    what = {"static": "rules of a well-formed file", "tensors": "tensors beside what they were made from"}
    return "; ".join(
        f"{len(suite.cases) - (suite.kind == 'tensors')} {what[suite.kind]}, "  # of tensors, one case is the whole file
        f"{f'**{len(suite.failed)} failed**' if suite.failed else 'none failed'}"
        for suite in file.suites
    )


def _front_matter(repo: str, files: list[File], bases: list[str]) -> str:
    """The metadata that the Hub reads, written by its own library."""
    about = [file.facts.get("about") or {} for file in files]
    roles = {file.role for file in files}
    data = ModelCardData(
        license=next((metadata.licence(a["license"]) for a in about if a.get("license")), None),
        language=sorted({one for a in about for one in metadata.languages(a.get("languages"))}) or None,
        pipeline_tag=next((tag for role, tag in PIPELINES.items() if role in roles), None),
        library_name=LIBRARY,
        base_model=bases if len(bases) > 1 else bases[0],
        base_model_relation="quantized",
        quantized_by=repo.partition("/")[0],
        tags=sorted({*TAGS, *(tag for a in about for tag in metadata.tags(a.get("tags")))}),
    )
    return f"---\n{data.to_yaml()}\n---"


def _base_models(files: list[File], said: str | None) -> list[str]:
    """Those that the files name, in their order; what the publisher `said` is for a file that names none."""
    repos = [(file.facts.get("provenance") or {}).get("repo") or said for file in files]
    bases = list(dict.fromkeys(repo for repo in repos if repo))
    if not bases:
        names = " and ".join(file.name for file in files) or "the publication"
        raise InputError(names, "no file says which model on the Hub it was made from",
                         todo="convert from the Hub id, or say it: --base-model OWNER/NAME")  # fmt: skip
    return bases


def _shards(files: list[File]) -> list[tuple[str, dict[str, str]]]:
    """Checkpoint → its files of weights → sha256, each checkpoint once."""
    told = [(commands.source_of(file.facts), (file.facts.get("provenance") or {}).get("shards")) for file in files]
    return list({source: (source, shards) for source, shards in told if source and shards}.values())


# ── templates ────────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def _environment() -> SandboxedEnvironment:
    """Names that nobody defined are errors; and a template may be somebody else's work: it can do nothing but write."""
    environment = SandboxedEnvironment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent), undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= page_numbers.FILTERS | {
        "text": markdown.text, "code": markdown.code, "url": markdown.url, "block": markdown.block,
        "verdict": verdict_word,
    }  # fmt: skip
    environment.globals |= {"REASONS": REASONS, "TRANSCRIPTS": TRANSCRIPTS, "HUB": HUB, "NBSP": "\N{NO-BREAK SPACE}"}
    return environment


def _render(path: Path, values: dict[str, Any]) -> str:
    """The template at `path`, filled. Raises InputError for whatever is wrong with a publisher's own."""
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
    """The line of the template at which it failed; Jinja puts its lines into the traceback."""
    lines = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == str(path)]
    return lines[-1] if lines else 1
