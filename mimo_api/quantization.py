"""Convert a GGUF file to another type or layout."""

from dataclasses import dataclass, field
from pathlib import Path

from mimo_convert.budget.choose import choose_for
from mimo_convert.claims import Claims
from mimo_convert.formats.imatrix import read_calibration
from mimo_convert.listener import OnMessage, OnProgress, heard_by
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.model.source_model import model_of_file
from mimo_convert.plan.describe import describe, print_plans
from mimo_convert.plan.feedback import open_feedback
from mimo_convert.plan.mix import Target, size_request
from mimo_convert.plan.named_recipes import NamedRecipe, check_recipe, recipe_named
from mimo_convert.plan.plan import Options, Plan
from mimo_convert.plan.request import Request, check_calibration_of, check_rules_of
from mimo_convert.terminal import show, tell, warn
from mimo_convert.threads import default_threads
from mimo_convert.write.choices import choose_rounding
from mimo_convert.write.convert import claim_files, convert, replan_local, what_is_to_do
from mimo_families.parts import check_parts
from mimo_families.registry import families
from quantize.backends import AUTO
from quantize.errors import InputError
from quantize.quoting import quoted
from quantize.recipes import Rule
from quantize.types import TYPES, Type, type_named
from runtime_check.report.records import Conversion
from runtime_check.report.results import conversion

from .paths import with_paths
from .recorded import accept_recorded


@dataclass(frozen=True)
class QuantizeOptions:
    """Options of a conversion of the file `source`; None keeps what it has. A named `recipe` excludes `outtype`;
    `without` names parts to skip; `imatrix` is a calibration file, or another program's importance matrix; `feedback`:
    with error feedback, by the second moments beside it; `size`, `calibration` and `floors` are those of
    `ConvertOptions`."""

    source: Path
    target: Path
    threads: int = field(default_factory=default_threads)
    outtype: Type | str | None = None
    fuse_qkv: bool | None = None
    rules: tuple[Rule, ...] = ()
    without: frozenset[str] = field(default_factory=frozenset)
    allow_requantize: bool = False
    quantizer: str = AUTO
    dry_run: bool = False
    force: bool = False
    recipe: NamedRecipe | str | None = None
    size: Target | str | None = None
    calibration: Path | None = None
    floors: tuple[Rule, ...] = ()
    imatrix: Path | None = None
    feedback: bool = False

    def __post_init__(self) -> None:
        with_paths(self)


def quantize(
    options: QuantizeOptions, *, progress: OnProgress | None = None, message: OnMessage | None = None,
    claims: Claims | None = None,
) -> Conversion:  # fmt: skip
    """Make a file of another type or layout from a GGUF file; returns what was written, or with `dry_run` would be.

    Raises InputError for a source that cannot be read, has too few bits to be quantized again, or a target in the way.
    """
    with heard_by(progress, message):
        return conversion(_quantize(options, claims or Claims()))


def _quantize(o: QuantizeOptions, claims: Claims) -> Plan:
    check_recipe(o.recipe, [o.outtype] if o.outtype else [])
    size = size_request(o.size, o.calibration, o.floors, [o.outtype] if o.outtype else [], o.recipe, o.imatrix)
    recipe = recipe_named(o.recipe) if o.recipe else None
    outtype = recipe.base if recipe else type_named(o.outtype) if o.outtype else None
    files = OpenFiles(families())
    model = model_of_file(o.source, files)
    check_parts(o.without, [model.family])
    if model.recipe_problem:
        warn(f"{model.recipe_problem}; read as a file without rules")
    if o.target.name.lower() in TYPES:
        todo = f"give the file to write, and --outtype {o.target.name.lower()}"
        raise InputError(o.target, "is the name of a type, where the file to write is expected", todo=todo)
    if o.target.is_dir():
        raise InputError(o.target, "is a folder", expected="the name of the file to write")
    used = o.imatrix or o.calibration
    calibration = read_calibration(used) if used else None
    options = Options(
        model.layout.fuse_qkv if o.fuse_qkv is None else o.fuse_qkv,
        o.without | model.layout.without,
        o.rules,
        o.allow_requantize,
        o.quantizer,
        recipe=recipe,
        calibration=calibration,
        feedback=open_feedback(calibration, o.threads) if o.feedback else None,
    )
    request = Request(model, [outtype], options, o.target.name)
    if size:
        chosen = choose_for(model, options, size, families(), o.threads)
        request = chosen.request(model, o.target.name)
    check_rules_of([request])
    check_calibration_of([request], families())
    if o.dry_run:
        [planned] = replan_local([request], o.threads)
        print_plans(planned.plans, o.target.parent, *what_is_to_do([planned], o.target.parent, force=o.force))
        return planned.plans[0]
    [request] = choose_rounding([request], o.threads)
    claim_files([request], o.target.parent, claims, "OUT.gguf")
    accept = accept_recorded(OpenFiles(families()))
    [plan] = convert([request], o.target.parent, threads=o.threads, force=o.force, tell=tell, accept=accept)
    show(f"{quoted(o.target)}: {describe(plan)}")
    return plan
