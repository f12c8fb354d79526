"""Plan an output file: every tensor with its type, offset and size, before a byte is written.

The dry run, the disk check, the conversion, its progress and the report all use the same plan.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import NamedTuple

from mimo_convert import __version__
from mimo_convert.formats.calibration import Calibration
from mimo_convert.formats.gguf import Entry, Header, align, make_header
from mimo_convert.formats.tensor import TensorSlice
from mimo_convert.model.family import Family
from mimo_convert.model.gguf_facts import QUANTIZER, RECIPE, RECIPE_NAME, UNKNOWN, VARIANT, backends_text
from mimo_convert.model.imatrix_facts import imatrix_entries
from mimo_convert.model.provenance import FEEDBACK as METHODS
from mimo_convert.model.provenance import (
    NOT_READ,
    SHARDS,
    VERSION,
    Intermediate,
    quantized_from_text,
    shards_text,
    with_hashes,
)
from mimo_convert.model.source_model import SourceModel, metadata_in, metadata_of_type
from quantize.backend_choice import choose_backend
from quantize.backends import AUTO, FEEDBACK, IMATRIX
from quantize.errors import InputError
from quantize.feedback.choice import PLAIN
from quantize.kernels import Floats, is_float
from quantize.recipes import Rule, Typed, choose_type, mixed_types, recipe_text, rule_for, type_label
from quantize.rows import takes_importance
from quantize.types import F32, Type

from .bind import bind, check_requantized, common_type, find_skipped
from .calibrated import columns_of, importance_of
from .feedback import LONGEST, Feedback, Rounding, feedback_text
from .mix import NO_MIX, Mix
from .named_recipes import NamedRecipe
from .recipe_rules import rules_of_recipe
from .variant import UNNAMED, Variant
from .variant import file_name as name_of

PROMOTED_F32 = "holds weights that would become infinite: promoted to f32"


@dataclass(frozen=True)
class Options:
    """Options of a conversion that apply to all its files. `recipe` is of files of its base type, `mix` was chosen for
    one of a given size; the `rules` come before theirs. `calibration` is the importance matrix, `feedback` how matrices
    are rounded with error feedback."""

    fuse_qkv: bool = False
    without: frozenset[str] = frozenset()
    rules: tuple[Rule, ...] = ()
    allow_requantize: bool = False
    backend: str = AUTO
    variant: Variant = UNNAMED
    recipe: NamedRecipe | None = None
    mix: Mix | None = None
    calibration: Calibration | None = None
    feedback: Feedback | None = None


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor of the output: the concatenated rows of `sources` as `ggml_type` at `offset` in the data section.

    `backends` are the quantization backends of its blocks, also of blocks that are copied; empty for floats. `note`
    says why its type is not the requested one, or why it is quantized without an importance matrix. `importance` is
    that of the columns of each source, (columns,) float32 or None, `rounding` how its rows are rounded with error
    feedback, `inputs` the name of its second moment, or nothing; all empty where none counts.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    ggml_type: Type
    sources: tuple[TensorSlice, ...]
    offset: int
    note: str = ""
    backends: frozenset[str] = frozenset()
    importance: tuple[Floats | None, ...] = field(default=(), compare=False, repr=False)
    rounding: tuple[Rounding | None, ...] = ()
    inputs: tuple[str, ...] = ()

    def importance_of(self, source: TensorSlice) -> Floats | None:
        """The importance of the columns of one of the sources; None to quantize it plain."""
        return self.importance[self.sources.index(source)] if self.importance else None

    def rounding_of(self, source: TensorSlice) -> Rounding | None:
        """How the rows of one of the sources are rounded with error feedback; None without."""
        return self.rounding[self.sources.index(source)] if self.rounding else None

    @property
    def n_weights(self) -> int:
        """Number of weights."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.ggml_type.nbytes(self.n_weights)


class Place(NamedTuple):
    """Bytes of a file, from `begin` until `end`."""

    begin: int
    end: int


@dataclass(frozen=True)
class Plan:
    """One GGUF file to write; `skipped` maps checkpoint tensors that are not in it to the reason, `rules` are those
    that it records, `recipe_name` the recipe that has one, `mix` what was chosen for a given size.

    `outtype` None: every tensor keeps the type it is stored in.
    """

    family: Family
    file_name: str
    outtype: Type | None
    fuse_qkv: bool
    metadata: list[Entry]
    tensors: list[PlannedTensor]
    skipped: dict[str, str]
    rules: tuple[Rule, ...] = ()
    recipe_name: str = ""
    mix: Mix | None = None

    @cached_property
    def _header(self) -> Header:
        return make_header(
            self.family.architecture, self.metadata, [(t.name, t.shape, t.ggml_type) for t in self.tensors]
        )

    @property
    def header(self) -> bytes:
        """The bytes before the tensor data, padded to the alignment."""
        return self._header.data

    @property
    def place_of_hashes(self) -> Place:
        """Where the header has placeholders for the sha256 of shards; empty if it has none."""
        text = next((str(entry.value) for entry in self.metadata if entry.key == SHARDS), "")
        if NOT_READ not in text:
            return Place(0, 0)
        begin = self._header.values[SHARDS]
        return Place(begin, begin + len(text.encode()))

    def hashes_in_header(self, hashes: Mapping[str, str]) -> tuple[int, bytes]:
        """The text with the sha256 of the checkpoint's shards, and its offset in the header."""
        [text] = [str(entry.value) for entry in self.metadata if entry.key == SHARDS]
        return self._header.values[SHARDS], with_hashes(text, hashes).encode()

    @property
    def quantizer(self) -> str:
        """The backends of the file's blocks as the key `mimo_convert.quantizer` has them; empty if none is known."""
        return _backends_text(self.tensors)

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        last = self.tensors[-1]
        return len(self.header) + align(last.offset + last.nbytes)

    @property
    def mixed(self) -> dict[str, int]:
        """The number of tensors of each other type that rules chose; empty for a file that keeps its types."""
        typed = (Typed(t.name, t.role, t.shape[-1], t.ggml_type) for t in self.tensors)
        return mixed_types(typed, self.outtype, self.rules) if self.outtype else {}

    @property
    def label(self) -> str:
        """The type with its mix, such as `q4_k + 2 q6_k`; empty for a file that keeps its types."""
        return type_label(self.outtype.name, self.mixed, self.recipe_name) if self.outtype else ""

    @property
    def n_weights(self) -> int:
        """Number of weights."""
        return sum(tensor.n_weights for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Bits of tensor data per weight (bpw)."""
        return sum(tensor.nbytes for tensor in self.tensors) * 8 / self.n_weights


NO_OPTIONS = Options()


def make_plan(
    model: SourceModel,
    outtype: Type | None,
    options: Options = NO_OPTIONS,
    *,
    file_name: str = "",
    absmax: Mapping[str, float] | None = None,
) -> Plan:
    """Plan one output file; `absmax` of tensors with a weight beyond F16's range, by name.

    Raises InputError if a tensor of the model is missing, misshapen, of a dtype that holds no weights, or unknown to
    the family; or if it would be requantized without `allow_requantize`.
    """
    tensors: list[PlannedTensor] = []
    used: set[str] = set()
    offset = 0
    family, asked = model.family, model.family.layout(options.fuse_qkv, options.without)
    layout = family.layout_from(model.dims, model.tensors, asked)
    every = list(family.tensors(model.dims, layout))
    of_recipe = rules_of_recipe(options.recipe, model.family.uses, every) if options.recipe else []
    of_recipe += options.mix.rules if options.mix else ()
    rules = [*options.rules, *of_recipe]
    columns, feedback = columns_of(model, options.calibration), options.feedback
    moments = feedback.entries(model) if feedback else {}
    methods: list[tuple[str, str]] = []
    for tensor in every:
        sources = tuple(bind(model, source.name, source.shape) for source in tensor.sources)
        used.update(source.name for source in tensor.sources)
        requested = outtype or common_type(model, tensor, sources, rules)
        row, stored = tensor.shape[-1], outtype is None
        ggml_type, note = choose_type(tensor.role, row, requested, tensor.name, rules, stored=stored)
        if (absmax or {}).get(tensor.name, 0.0) >= ggml_type.overflow:
            ggml_type, note = F32, PROMOTED_F32
        if not options.allow_requantize:
            check_requantized(model, sources, ggml_type)
        copied = all(source.ggml_type is ggml_type for source in sources)
        backends = frozenset[str]()
        if not is_float(ggml_type):
            backends = model.backends if copied else frozenset({choose_backend(ggml_type, options.backend)})
        weights: tuple[Floats | None, ...] = ()
        rounding: tuple[Rounding | None, ...] = ()
        inputs: tuple[str, ...] = ()
        if columns and takes_importance(ggml_type) and not copied:
            known = [importance_of(columns.get(source.name)) for source in tensor.sources]
            reasons = [note, next(filter(None, (why for _, why in known)), "")]
            weights, note = tuple(found for found, _ in known), "; ".join(filter(None, reasons))
            if feedback:
                names = [source.name for source in tensor.sources]
                inputs = tuple(
                    "" if one is None else moments.get(name, "") for name, one in zip(names, weights, strict=True)
                )
                chosen = [feedback.methods.get((name, ggml_type.name), "") for name in inputs]
                weights = tuple(None if how == PLAIN else one for how, one in zip(chosen, weights, strict=True))
                rounding = tuple(map(feedback.rounding_of, inputs, chosen))
                methods += [(name, how or LONGEST) for name, how in zip(inputs, chosen, strict=True) if name]
            backends |= {IMATRIX} if any(found is not None for found in weights) else set()
            backends |= {FEEDBACK} if any(rounding) else set()
        elif not takes_importance(ggml_type):
            backends -= {IMATRIX, FEEDBACK}  # of a file, others of whose blocks are copied
        planned = PlannedTensor(
            tensor.name,
            tensor.role,
            tensor.shape,
            ggml_type,
            sources,
            offset,
            note,
            backends,
            weights,
            rounding,
            inputs,
        )
        tensors.append(planned)
        offset = align(offset + planned.nbytes)
    recorded = _rules_of(tensors, model, outtype, rules)
    is_variant = options.variant.always or any(rule not in of_recipe for rule in recorded)
    variant = options.variant.name if is_variant else ""
    told = _told(tensors, model, recorded, options.calibration) | {METHODS: feedback_text(methods)}
    if options.variant.recorded:
        told[VARIANT] = variant
    elif outtype or options.rules:
        told[VARIANT] = ""  # its source's
    told |= options.mix.told if options.mix else NO_MIX
    declared = options.recipe or outtype
    if declared:
        told[RECIPE_NAME] = options.recipe.name if options.recipe else ""
    return Plan(
        family=model.family,
        file_name=file_name or _file_name(model, declared, variant),
        outtype=outtype,
        fuse_qkv=options.fuse_qkv,
        metadata=metadata_of_type(metadata_in(model, layout), declared.file_type if declared else None, told),
        tensors=tensors,
        skipped=find_skipped(model, used, layout),
        rules=tuple(recorded),
        recipe_name=options.recipe.name if options.recipe else "",
        mix=options.mix,
    )


def _told(
    tensors: Sequence[PlannedTensor], model: SourceModel, rules: Sequence[Rule], calibration: Calibration | None
) -> dict[str, str | int]:
    """Metadata about how the file is made; nothing in it may differ between equal files."""
    told = dict[str, str | int]()
    sources = [(tensor, source) for tensor in tensors for source in tensor.sources]
    if model.is_checkpoint:
        told[SHARDS] = shards_text(source.file.name for _, source in sources if source.is_stored)
    elif any(_may_have_lost(source, model) and source.ggml_type is not tensor.ggml_type for tensor, source in sources):
        told |= quantized_from_text(model.provenance.intermediates, _intermediate(model))
    told |= _told_of_imatrix(tensors, model, calibration)
    return told | {
        RECIPE: recipe_text(rules, str(model.where)),
        QUANTIZER: _backends_text(tensors),
        VERSION: __version__,
    }


def _told_of_imatrix(
    tensors: Sequence[PlannedTensor], model: SourceModel, calibration: Calibration | None
) -> Mapping[str, str | int]:
    """Metadata about the importance matrix. Raises InputError for blocks of two: of this one, and of that of a source
    whose blocks are copied."""
    weighted = [tensor for tensor in tensors if {IMATRIX, UNKNOWN} & tensor.backends]
    copied = [tensor for tensor in weighted if not tensor.importance]
    used = calibration if len(copied) < len(weighted) else None
    recorded = model.provenance.imatrix
    if copied and used and used.sha256 != recorded:
        what = f"blocks of {copied[0].name} are copied, of the imatrix {recorded or '(unknown)'}"
        raise InputError(model.where, what, expected=f"{used.sha256}, as --imatrix", todo="convert the checkpoint")
    return {} if copied and not used else imatrix_entries(used)


def _may_have_lost(source: TensorSlice, model: SourceModel) -> bool:
    """Whether the result depends on the type that a file stores a tensor in.

    F32 holds any checkpoint's weights exactly; blocks that were dequantized to F32 do not give the same blocks again.
    """
    return source.ggml_type is not F32 or bool(model.provenance.intermediates)


def _intermediate(model: SourceModel) -> Intermediate:
    """The record of a file that another is made from."""
    every = model.family.tensors(model.dims, replace(model.layout, fuse_qkv=False))
    tensors = [tensor for tensor in every if tensor.sources[0].name in model.tensors]
    stored = {tensor.name: model.tensors[tensor.sources[0].name].ggml_type for tensor in tensors}
    ggml_type = model.outtype or Counter(stored.values()).most_common(1)[0][0]
    has_blocks = not all(map(is_float, stored.values()))
    return Intermediate(
        ggml_type.name,
        {
            tensor.name: stored[tensor.name].name
            for tensor in tensors
            if choose_type(tensor.role, tensor.shape[-1], ggml_type)[0] is not stored[tensor.name]
        },
        " + ".join(sorted(model.backends)) if has_blocks else "",
        model.provenance.version,
    )


def _backends_text(tensors: Iterable[PlannedTensor]) -> str:
    return backends_text({name for tensor in tensors for name in tensor.backends})


def _rules_of(
    tensors: Sequence[PlannedTensor], model: SourceModel, outtype: Type | None, rules: Sequence[Rule]
) -> list[Rule]:
    """The rules from which the planned types follow: the user's, then those of a file that keeps its types.

    Fusing or splitting Q, K and V renames them: a tensor whose type the rules do not give under its new name gets its
    own.
    """
    if outtype is None:
        every = [*rules, *model.rules]
        own = [
            rule_for(tensor.name, tensor.ggml_type, str(model.where))
            for tensor in tensors
            if _is_renamed(tensor) and not _follows(tensor, model.outtype, every)
        ]
        rules = [*own, *every]
    return [rule for rule in rules if any(rule.matches(tensor.name, tensor.role) for tensor in tensors)]


def _is_renamed(tensor: PlannedTensor) -> bool:
    """Whether a tensor is copied from one of another name."""
    return any(source.name.partition("[")[0] != tensor.name for source in tensor.sources)


def _follows(tensor: PlannedTensor, ggml_type: Type | None, rules: Iterable[Rule]) -> bool:
    """Whether the rules, or the declared `ggml_type` (None: unknown), give a tensor its planned type."""
    if tensor.note == PROMOTED_F32 or ggml_type is None:
        return True
    return choose_type(tensor.role, tensor.shape[-1], ggml_type, tensor.name, rules)[0] is tensor.ggml_type


def _file_name(model: SourceModel, declared: NamedRecipe | Type | None, variant: str) -> str:
    assert declared is not None, "a file that keeps its types is named by whoever asks for it"
    stem = model.family.stem(model.dims, model.adapter.name if model.adapter else "", model.edition)
    return name_of(stem, model.family.spelled(declared.name), variant)
