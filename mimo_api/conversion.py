"""Convert a checkpoint and its companions to GGUF files, validate them, and publish them if requested."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mimo_convert.budget.choose import Chosen, choose_for
from mimo_convert.claims import Claims
from mimo_convert.formats.calibration import Calibration
from mimo_convert.formats.imatrix import read_calibration
from mimo_convert.listener import OnMessage, OnProgress, heard_by
from mimo_convert.model.checkpoint import Checkpoint
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.model.source_model import SourceModel, model_of_checkpoint, model_of_file, unlike_copies
from mimo_convert.plan.describe import describe, print_plans
from mimo_convert.plan.feedback import Feedback, open_feedback
from mimo_convert.plan.mix import SizeRequest, Target, size_request
from mimo_convert.plan.named_recipes import NamedRecipe, check_recipe, recipe_named
from mimo_convert.plan.plan import Options, Plan
from mimo_convert.plan.request import Request, check_calibration_of, check_rules_of, make_request
from mimo_convert.plan.variant import UNNAMED, Variant
from mimo_convert.terminal import show, tell
from mimo_convert.threads import default_threads
from mimo_convert.write.choices import choose_rounding
from mimo_convert.write.convert import InterruptedRunError, claim_files, replan_local, what_is_to_do
from mimo_convert.write.convert import convert as write_files
from mimo_families.companions import refuse_companion
from mimo_families.opening import OpenCheckpoints, family_in, find_reference, open_main, open_members
from mimo_families.parts import WITH, WITHOUT, check_parts, check_written, spelled
from mimo_families.registry import families, in_layout
from mimo_families.same_model import check_reference_model
from mimo_families.sources import bundled_names
from mimo_publish.destination import Destination
from quantize.backends import AUTO
from quantize.errors import InputError
from quantize.quoting import quoted
from quantize.recipes import Rule
from quantize.types import F16, Type, type_named
from runtime_check.audio.jfk import JFK
from runtime_check.audio.manifests import find_clips
from runtime_check.report.records import Report
from runtime_check.report.results import NO_OUTPUTS, Outputs, Results
from runtime_check.run.members import Paths
from runtime_check.run.references.sources import NoPyTorchError
from runtime_check.run.system import SystemType
from runtime_check.run.validate import Inputs, validate
from runtime_check.static.lint import lint
from runtime_check.tensors.compare import compare_tensors

from .cost import Cost, ask, cost_of, is_worth_asking
from .paths import with_paths
from .recorded import accept_recorded

if TYPE_CHECKING:
    from mimo_publish.publication import PublishResult


@dataclass(frozen=True)
class ConvertOptions:
    """Options of a conversion. `types` empty: F16, or that of the named `recipe`, which excludes them.

    `base_model` is the Hub id of what the folder `model` holds; `companions` are the checkpoints of the other roles,
    `companion_base_models` their Hub ids, by role; `companion_type` is their type (None: those that belong to `types`,
    by the system). `adapter` is the folder of a LoRA adapter for the main checkpoint, with the Hub id `adapter_model`,
    or `none` for the base of a repository that holds both. `runtime` is the one that loads the files, where a model has
    several layouts (empty: the first). `parts` are written also where the model's files lack them by default, `without`
    are left out. `imatrix` is a calibration file, or another program's importance matrix; `feedback`: with error
    feedback, by the second moments beside it. `size`, such as `4.6GB` or `4.5bpw`, takes the place of types: one is
    chosen for each tensor, not below the `floors`, by what the `calibration` knows, which is the `imatrix`, too.
    `variant` is in the names of files that `rules` apply to. `checked`: the files are run and compared
    with `reference` (None: the model itself).
    """

    model: str
    types: Sequence[Type | str] = ()
    outputs: Outputs = NO_OUTPUTS
    audio: Path = JFK
    threads: int = field(default_factory=default_threads)
    base_model: str | None = None
    companions: Mapping[str, str | None] = field(default_factory=dict)
    companion_base_models: Mapping[str, str | None] = field(default_factory=dict)
    companion_type: Type | str | None = None
    fuse_qkv: bool = False
    parts: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()
    rules: tuple[Rule, ...] = ()
    recipe: NamedRecipe | str | None = None
    size: Target | str | None = None
    calibration: Path | None = None
    floors: tuple[Rule, ...] = ()
    imatrix: Path | None = None
    feedback: bool = False
    variant: Variant = UNNAMED
    quantizer: str = AUTO
    out: Path | None = None
    checked: bool = True
    reference: str | None = None
    repack: str = "auto"
    products: str = "auto"
    destination: Destination | None = None
    stream: bool = False
    dry_run: bool = False
    force: bool = False
    adapter: str | None = None
    runtime: str = ""
    adapter_model: str | None = None

    def __post_init__(self) -> None:
        with_paths(self)

    @property
    def source(self) -> str:
        """The source of the reference."""
        return self.reference or self.model


@dataclass(frozen=True)
class Opened:
    """The checkpoints of a system, and the request of each, in the order of roles."""

    system: SystemType
    checkpoints: Mapping[str, Checkpoint]
    every: OpenCheckpoints
    requests: Sequence[Request]
    out: Path
    files: OpenFiles


@dataclass(frozen=True)
class Converted:
    """What came of a conversion: the report, and of the publication (None: nobody asked for one)."""

    report: Report
    published: "PublishResult | None" = None

    @property
    def passed(self) -> bool | None:
        """False if a file failed, or did not arrive at the Hub; None if not everything was compared."""
        return self.published.passed if self.published else self.report.passed


def convert(
    options: ConvertOptions, *, progress: OnProgress | None = None, message: OnMessage | None = None,
    agree: Callable[[Cost], bool] = lambda cost: True, claims: Claims | None = None,
) -> Converted:  # fmt: skip
    """Convert a checkpoint and its companions to GGUF files, check them, and publish them if requested.

    `agree` is asked before something large is downloaded. Raises InputError for a checkpoint that cannot be converted,
    files in the way, and contradictory options; KeyboardInterrupt without an agreement.
    """
    with heard_by(progress, message):
        return _convert(options, agree, claims or Claims())


def _convert(o: ConvertOptions, agree: Callable[[Cost], bool], claims: Claims) -> Converted:
    check_options(o)
    opened = open_all(o, agree, claims)
    if o.dry_run:
        return Converted(print_plans_of(o, opened))
    inputs = prepare(o, opened, claims)
    if is_worth_asking(opened.requests):
        write = what_is_to_do(opened.requests, opened.out, force=o.force).nbytes
        ask(cost_of(opened.requests, write, opened.out, measured=True), agree)
    opened = replace(opened, requests=choose_rounding(opened.requests, o.threads))
    unrecorded: list[Path] = []
    accept = accept_recorded(opened.files, o.outputs.json, unrecorded)
    plans = write_files(opened.requests, opened.out, threads=o.threads, force=o.force, tell=tell, accept=accept)
    for plan in plans:
        show(f"{quoted(opened.out / plan.file_name)}: {describe(plan)}")
    for line in (line for request in opened.requests for line in unlike_copies(request.model)):
        tell(f"warning: {line}")
    results = Results("mimo-convert", plans)
    if inputs:
        check_files(o, opened, plans, inputs, unrecorded, results)
    return finish(o, opened, results, claims)


def check_options(o: ConvertOptions) -> None:
    """Raise InputError for contradictory options, and outputs that cannot be written."""
    o.outputs.check()
    if o.stream and o.runtime:
        what = "deletes each shard once it is read, and each file of a pair is made of all of them"
        raise InputError("--stream", what, todo=f"leave out --stream, or --runtime {o.runtime}")
    if o.stream and o.checked and not (o.reference and Path(o.reference).is_file()):
        raise InputError(
            "--stream", "the check would need the shards that it deletes", expected="--no-check or --reference FILE"
        )
    if o.stream and o.feedback:
        what = "deletes each shard once it is read, and --feedback reads rows before"
        raise InputError("--stream", what, expected="one of them")
    check_recipe(o.recipe, o.types)
    if asked_size(o) and o.stream:
        what = "deletes each shard once it is read, and a choice of types reads them twice"
        raise InputError("--stream", what, todo="leave it out")
    for part in sorted(o.parts & o.without):
        raise InputError(f"{WITH} {spelled(part)}", f"contradicts {WITHOUT} {spelled(part)}", expected="one of them")
    if o.destination and not o.checked:
        raise InputError("--publish", "is for files that were checked", todo="leave out --no-check")


def open_all(o: ConvertOptions, agree: Callable[[Cost], bool], claims: Claims) -> Opened:
    """Open the checkpoints and plan the files; for one of a given size, types are chosen first. Raises InputError."""
    used = o.imatrix or o.calibration
    calibration = read_calibration(used) if used else None
    feedback = open_feedback(calibration, o.threads) if o.feedback else None
    opened = OpenCheckpoints(stream=o.stream and not o.dry_run, adapter=o.adapter)
    system, checkpoints = open_checkpoints(o, opened)
    check_parts(o.without, system.families)
    check_parts(o.parts, system.families, WITH)
    if o.destination and not checkpoints[system.family.role].repo:
        what = f"the card must name the base model, and {o.model} does not tell"
        raise InputError("--publish", what, todo="say it: --base-model")
    for checkpoint in checkpoints.values():
        claims.reads("the checkpoint", checkpoint.folder)
    models = {family.role: model_of_checkpoint(checkpoints[family.role], family) for family in system.families}
    main = models[system.family.role]
    out = o.out or Path(f"{main.name}-GGUF")
    options = {}
    for role, model in models.items():
        without = left_out(o, model, main)
        check_written(o.parts, without, model, checkpoints[role].config)
        options[role] = options_of(o, system, role, without, calibration, feedback)
    asked = asked_size(o)

    def before(request: Request) -> None:
        """Refuse, or let agree to, a download of what the choice must read."""
        if asked and o.dry_run and not request.is_here:
            what = f"needs every weight of {request.model.name}, which is not all here"
            raise InputError(asked.target.option, what, todo="leave out --dry-run, or download it first")
        if asked and is_worth_asking([request]):
            write = asked.target.most(0, request.plans[0].n_weights)
            ask(cost_of([request], write, out, measured=True), agree)

    of_main = options[system.family.role]
    chosen = choose_for(main, of_main, asked, families(), o.threads, before) if asked else None
    requests = [
        chosen.request(main) if chosen and model is main
        else make_request(model, types_of(o, system, role, chosen), options[role])
        for role, model in models.items()
    ]  # fmt: skip
    check_rules_of(requests)
    check_calibration_of(requests, families())
    claim_files(requests, out, claims, "--out")
    return Opened(system, checkpoints, opened, requests, out, OpenFiles(families()))


def asked_size(o: ConvertOptions) -> SizeRequest | None:
    """The size that the main file shall have; None if none is asked for. Raises InputError for contradictions."""
    return size_request(o.size, o.calibration, o.floors, o.types, o.recipe, o.imatrix)


def open_checkpoints(o: ConvertOptions, checkpoints: OpenCheckpoints) -> tuple[SystemType, Mapping[str, Checkpoint]]:
    """The checkpoints of a system by role, with the given base models.

    Errors of the main one are found before a companion is opened.
    """
    system, main = open_main(o.model, checkpoints)
    system = in_layout(system, o.runtime)
    if o.base_model is not None:
        main = main.of_base_model(o.base_model, "--base-model")
    if o.adapter_model is not None:
        main = main.of_adapter_model(o.adapter_model, "--adapter-model")
    check_companions(o, system, checkpoints)
    opened = open_members(system, main, o.model, o.companions, checkpoints)
    for role, base in o.companion_base_models.items():
        if base is not None:
            opened[role] = opened[role].of_base_model(base, "--tokenizer-base-model")
    return system, opened


def check_companions(o: ConvertOptions, system: SystemType, checkpoints: OpenCheckpoints) -> None:
    """Raise InputError for options about a companion that the model does not have."""
    roles = [family.role for family in system.companions]
    for option, said in (("--tokenizer", o.companions), ("--tokenizer-base-model", o.companion_base_models)):
        for role, value in said.items():
            if value is not None and role not in roles:
                family = family_in(value, checkpoints) if said is o.companions else None
                refuse_companion(system, o.model, role, value, option, family)


def types_of(o: ConvertOptions, system: SystemType, role: str, chosen: Chosen | None = None) -> Sequence[Type]:
    """The types of a role: all for the main model, or what was `chosen`; for a companion, or a model without
    companions, the companion type; for a companion else those that belong to the main model's, each once."""
    is_companion = role != system.family.role
    types = [recipe_named(o.recipe).base] if o.recipe else [type_named(one) for one in o.types or (F16,)]
    types = [chosen.base] if chosen else types
    if not system.companions:
        check_recipe(o.recipe, [o.companion_type] if o.companion_type else [], "--tokenizer-outtype")
    if o.companion_type and (is_companion or not system.companions):
        return [type_named(o.companion_type)]
    return list(dict.fromkeys(map(system.companion_type, types))) if is_companion else types


def left_out(o: ConvertOptions, model: SourceModel, main: SourceModel) -> frozenset[str]:
    """The parts that the file of a model lacks: as the options say, else by the edition of the `main` one."""
    by_default = main.edition.left_out if main.edition else frozenset[str]()
    return (by_default | o.without | model.family.unwritten_parts) - o.parts


def options_of(
    o: ConvertOptions, system: SystemType, role: str, without: frozenset[str], calibration: Calibration | None,
    feedback: Feedback | None,
) -> Options:  # fmt: skip
    """The options of a role; only files of the main model are variants without a rule, and by a named recipe."""
    is_main = role == system.family.role
    variant = o.variant._replace(always=o.variant.always and is_main)
    recipe = recipe_named(o.recipe) if o.recipe and is_main else None
    return Options(
        o.fuse_qkv, without, o.rules, backend=o.quantizer, variant=variant, recipe=recipe, calibration=calibration,
        feedback=feedback,
    )  # fmt: skip


def print_plans_of(o: ConvertOptions, opened: Opened) -> Report:
    """Print what a conversion would write; returns it as a report."""
    requests = replan_local(opened.requests, o.threads)
    plans = [plan for request in requests for plan in request.plans]
    left = what_is_to_do(requests, opened.out, force=o.force)
    cost = cost_of(requests, left.nbytes, opened.out, measured=False)
    if cost.download:
        show(str(cost))
    print_plans(plans, opened.out, *left)
    return Results("mimo-convert", plans).write(o.outputs)


def prepare(o: ConvertOptions, opened: Opened, claims: Claims) -> Inputs | None:
    """Open clips and reference before long work; None if nothing is checked."""
    if o.destination:
        from mimo_publish.publication import check_beforehand  # late: it takes 30 MB

        names = [plan.file_name for request in opened.requests for plan in request.plans]
        check_beforehand(opened.out, names, o.destination, claims)
    if not o.checked:
        return None
    clips = find_clips([o.audio])
    hashes = [clip.sha256 for clip in clips]
    beside = {} if o.reference in bundled_names() else o.companions
    members = dict(opened.checkpoints) if o.source == o.model else None
    try:
        reference = find_reference(o.source, beside, hashes, opened.system, checkpoints=opened.every, members=members)
    except NoPyTorchError as error:
        raise InputError(
            error.where, error.what, todo=f"{error.todo}, or convert without a check: --no-check"
        ) from error
    models = {request.model.family.role: request.model for request in opened.requests}
    check_reference_model(opened.system, models, reference, o.source)
    inputs = Inputs(clips, reference, repack=o.repack, products=o.products)
    inputs.check_clips()
    return inputs


def check_files(
    o: ConvertOptions, opened: Opened, plans: Sequence[Plan], inputs: Inputs, unrecorded: Sequence[Path],
    results: Results,
) -> None:  # fmt: skip
    """Lint the files, run them, and compare them with the reference; those of an earlier run of which nothing is
    recorded also row by row with their checkpoint. Raises InterruptedRunError for an interrupt."""
    try:
        for plan in plans:
            results.add(lint(opened.out / plan.file_name, opened.files, o.threads, hashed=True))
        with results.as_far_as_possible():
            for request in opened.requests:
                for path in {opened.out / plan.file_name for plan in request.plans}.intersection(unrecorded):
                    ours = model_of_file(path, opened.files)
                    calibration = request.options.calibration if ours.provenance.imatrix else None
                    results.add(compare_tensors(ours, request.model, o.threads, calibration))
            for checked in validate(inputs, systems_to_check(o, opened, plans), opened.files, o.threads):
                results.add_check(checked)
    except KeyboardInterrupt:
        raise InterruptedRunError("interrupted: the files are written; the same command checks them") from None


def systems_to_check(o: ConvertOptions, opened: Opened, plans: Sequence[Plan]) -> list[tuple[SystemType, Paths]]:
    """Each file of the main family with the companions that belong to it."""
    system, main = opened.system, opened.system.family.role
    paths = {(plan.family.role, plan.outtype): opened.out / plan.file_name for plan in plans}

    def members(outtype: Type) -> Paths:
        of_companion = type_named(o.companion_type) if o.companion_type else system.companion_type(outtype)
        return {family.role: paths[family.role, of_companion] for family in system.companions}

    mains = [(outtype, path) for (role, outtype), path in paths.items() if role == main and outtype]
    return [(system, {main: path, **members(outtype)}) for outtype, path in mains]


def finish(o: ConvertOptions, opened: Opened, results: Results, claims: Claims) -> Converted:
    """Write the report, and publish the files if requested."""
    if not o.destination:
        return Converted(results.write(o.outputs))
    from mimo_publish.publication import publication, publish

    report = results.report()
    report = replace(report, publication=publication(report, o.destination))
    o.outputs.write(report)
    return Converted(report, publish(report, opened.out, o.destination, opened.files, claims, tell))
