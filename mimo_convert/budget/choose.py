"""Choose the types of a file under a target: what is fixed is subtracted first, the rest goes where it saves most."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from mimo_convert.files import check_can_write
from mimo_convert.formats.calibration import Calibration
from mimo_convert.formats.gguf import align
from mimo_convert.model.family import Family
from mimo_convert.model.source_model import SourceModel
from mimo_convert.numbers_text import size as size_text
from mimo_convert.plan.calibrated import check_calibration
from mimo_convert.plan.mix import Mix, SizeRequest, Target
from mimo_convert.plan.plan import Options, Plan, PlannedTensor, make_plan
from mimo_convert.plan.request import Request, check_rules_of
from mimo_convert.plan.variant import Variant
from quantize.budget.allocate import Allocation, allocate
from quantize.budget.items import BudgetTooSmallError, Candidate, Item
from quantize.errors import InputError
from quantize.recipes import ROLE_TYPES, Rule, check_rules
from quantize.types import F16, F32, TYPES, Type

from .allowed import Limits
from .divergence import Sensitivity, sensitivity_of
from .errors_file import Errors, errors_path, read_errors
from .measure import identity_of, lacks, measure
from .rules import rules_of_types

LEAST_UNKNOWN = TYPES["q4_k"]  # of a tensor of which nothing is known
MOST_ROUNDS = 8  # in which the length of the header, which holds the choice, must agree with the choice


@dataclass(frozen=True)
class Chosen:
    """A request for a file of a given size: the type that most of its weights have, the options with the mix, and the
    absmax of tensors that are promoted to F32."""

    base: Type
    options: Options
    absmax: Mapping[str, float]

    def request(self, model: SourceModel, file_name: str = "") -> Request:
        """The request for the file of the model, under that name if there is one."""
        return Request(model, [self.base], self.options, file_name, self.absmax)


def choose_for(
    model: SourceModel, options: Options, asked: SizeRequest, families: Sequence[Family], threads: int,
    before: Callable[[Request], object] = lambda request: None,
) -> Chosen:  # fmt: skip
    """Choose the types of a file of the size that is asked for, by the calibration in `options`, which may be of other
    `families`, too; `before` is called with the request for the same file in F16, whose sources are read. The variant
    of the file is its target, unless it has a name."""
    assert options.calibration is not None
    request = Request(model, [F16], options)
    check_rules_of([request])
    check_calibration([model], options.calibration, families)
    before(request)
    variant = options.variant if options.variant.always else Variant(str(asked.target), always=True, recorded=True)
    return choose(model, replace(options, variant=variant), asked.target, options.calibration, asked.floors, threads)


def choose(
    model: SourceModel, options: Options, target: Target, calibration: Calibration, floors: Sequence[Rule], threads: int
) -> Chosen:
    """Choose a type for each tensor of a file of `model`, by what each does to the output and how large the file may
    be; `floors` are rules that name the smallest type, before those of the family.

    Reads all weights unless an earlier run did. Raises InputError for a floor of no tensor, a calibration without
    Fisher information or of another model, a file of measurements that cannot be written, and a target that cannot be
    met.
    """
    check_sensitivity(calibration, model)
    skeleton = make_plan(model, F16, options)
    check_rules(floors, [(tensor.name, tensor.role) for tensor in skeleton.tensors])
    known = {one.name: found for one in skeleton.tensors if (found := checked_sensitivity(calibration, one))}
    if not known:
        what = f"knows the sensitivity of no tensor of a file of {model.name}"
        raise InputError(calibration.where, what, todo="make one of this model: mimo-calibrate --sensitivity")
    errors = read_errors(errors_path(calibration.where), identity_of(model, calibration.sha256, options.backend))
    choice = Choice(model, options, target, floors, skeleton, known, errors)
    if lacks(choice.wanted, errors):
        check_can_write(errors.path)
        measure(model, skeleton.tensors, choice.wanted, known, errors, options.backend, threads)
    return choice.best()


def check_sensitivity(calibration: Calibration, model: SourceModel) -> None:
    """Raise InputError for a calibration that does not say how much the output depends on each matrix."""
    if not calibration.fisher or not calibration.tokens:
        what = "holds no Fisher information, by which a type is chosen for each tensor"
        raise InputError(calibration.where, what, todo="make it with mimo-calibrate --sensitivity")


def checked_sensitivity(calibration: Calibration, tensor: PlannedTensor) -> Sensitivity | None:
    """What is known of a tensor. Raises InputError if it is of another size."""
    found = sensitivity_of(calibration, tensor.name)
    if found:
        source = tensor.sources[0]
        there = len(found.rows), len(found.squares)
        expected = sum(one.n_rows for one in tensor.sources), source.row
        if there != expected:
            what = f"tensor {tensor.name} has {there[0]:,} rows and {there[1]:,} columns"
            todo = "give the calibration of this model"
            expected_text = f"{expected[0]:,} and {expected[1]:,}"
            raise InputError(calibration.where, what, expected=expected_text, todo=todo)
    return found


@dataclass(frozen=True)
class Choice:
    """Everything that a choice depends on; `skeleton` is the file in F16, `known` are the sensitivities by tensor,
    `unknown_bits` the most bits per weight of a tensor of which nothing is known."""

    model: SourceModel
    options: Options
    target: Target
    floors: Sequence[Rule]
    skeleton: Plan
    known: Mapping[str, Sensitivity]
    errors: Errors
    unknown_bits: float = 0.0

    # ── which types a tensor may get ─────────────────────────────────────────────────────────────────────────────

    @cached_property
    def allowed(self) -> dict[str, list[Type]]:
        """The types that each tensor may get, one where a rule or its role decides."""
        limits = Limits(self.model, self.options.rules, self.floors)
        return {tensor.name: limits.types(tensor) for tensor in self.skeleton.tensors}

    @property
    def wanted(self) -> dict[str, list[Type]]:
        """The types that each tensor is measured in, none where nothing is known of it; without those that are F32."""
        ranged = {name: [one for one in types if one is not F32] for name, types in self.allowed.items()}
        return {name: types if name in self.known else [] for name, types in ranged.items() if types}

    # ── the choice ───────────────────────────────────────────────────────────────────────────────────────────────

    def best(self) -> Chosen:
        """The choice under the target. Raises InputError if there is none.

        What nothing is known of gets the largest type that is not above the target's bits per weight, or, where that is
        too much, the smallest.
        """
        bits = self._most(len(self.skeleton.header)) * 8 / self.skeleton.n_weights
        least = LEAST_UNKNOWN.bits_per_weight
        choices = [replace(self, unknown_bits=one) for one in dict.fromkeys((max(bits, least), least))]
        if found := next(filter(None, (choice.within() for choice in choices)), None):
            return found
        raise choices[-1].too_small()

    def within(self) -> Chosen | None:
        """The choice under the target; None if there is none.

        The header holds the choice: it is repeated until both agree, and the best of those that fit is taken.
        """
        header = len(self.smallest.header)
        found: list[tuple[float, Plan, Mix]] = []
        tried: set[int] = set()
        while header not in tried and len(tried) < MOST_ROUNDS:
            tried.add(header)
            try:
                allocation = allocate(self.items, self._most(header) - self.fixed_bytes)
            except BudgetTooSmallError:
                break
            plan, mix = self._plan_of(allocation)
            header = len(plan.header)
            if plan.size - header <= self._most(header):
                found.append((allocation.cost, plan, mix))
        if not found:
            return None
        _, plan, mix = min(found, key=lambda one: one[0])
        assert plan.outtype is not None
        return Chosen(plan.outtype, replace(self.options, mix=mix), self.errors.absmax)

    def _most(self, header: int) -> int:
        return self.target.most(header, self.skeleton.n_weights)

    def too_small(self) -> InputError:
        """The error for a target that cannot be met."""
        least = self.smallest
        is_met = f"{least.size:,} bytes, {size_text(least.size)}, {least.bits_per_weight:.3f} bits per weight"
        what = "cannot be met: floors and rules allow no file that small"
        todo = "lower a --floor, or leave out a part"
        return InputError(self.target.option, what, expected=f"at least {is_met}", todo=todo)

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """The tensors that a type is chosen for."""
        return tuple(
            Item(
                tensor.name,
                tuple(
                    Candidate(one.name, align(one.nbytes(tensor.n_weights)), self.errors.by_type[tensor.name][one.name])
                    for one in self.allowed[tensor.name]
                ),
            )
            for tensor in self.skeleton.tensors
            if tensor.name in self.known
            and tensor.name not in self.errors.absmax
            and len(self.allowed[tensor.name]) > 1
        )

    @cached_property
    def fixed(self) -> dict[str, Type]:
        """The types of all other tensors."""
        chosen_for = {item.name for item in self.items}
        return {tensor.name: self._fixed(tensor) for tensor in self.skeleton.tensors if tensor.name not in chosen_for}

    def _fixed(self, tensor: PlannedTensor) -> Type:
        """The type of a tensor that has one already; where nothing is known, the largest of so many bits."""
        if tensor.name in self.errors.absmax:
            return F32
        allowed = self.allowed[tensor.name]
        by_size = sorted(allowed, key=lambda one: one.bits_per_weight)
        return next((one for one in reversed(by_size) if one.bits_per_weight <= self.unknown_bits), by_size[0])

    @cached_property
    def fixed_bytes(self) -> int:
        """Bytes of all other tensors, padding included."""
        return sum(align(self.fixed[one.name].nbytes(one.n_weights)) for one in self.skeleton.tensors
                   if one.name in self.fixed)  # fmt: skip

    @property
    def unknown(self) -> tuple[str, ...]:
        """The tensors that got a type although nothing is known of them."""
        return tuple(name for name in self.fixed if name not in self.known and len(self.allowed[name]) > 1)

    def _plan_of(self, allocation: Allocation) -> tuple[Plan, Mix]:
        """The file of an allocation."""
        types = {
            item.name: TYPES[item.candidates[k].name] for item, k in zip(self.items, allocation.chosen, strict=True)
        }
        types = self.fixed | types
        predicted = {
            name: self.errors.by_type[name][one.name]
            for name, one in types.items()
            if one.name in self.errors.by_type.get(name, {})
        }
        base = self._base(types)
        rules = rules_of_types(types, base, self.skeleton.tensors, self.model.family.uses, self.options.rules)
        mix = Mix(
            self.target, tuple(rules), self.options.rules, tuple(self.floors), predicted, self.unknown, allocation.gap
        )
        options = replace(self.options, mix=mix)
        return make_plan(self.model, base, options, absmax=self.errors.absmax), mix

    @cached_property
    def smallest(self) -> Plan:
        """The file of the smallest types."""
        numbers = [
            min(range(len(item.candidates)), key=lambda k: (item.candidates[k].nbytes, k)) for item in self.items
        ]
        return self._plan_of(Allocation(tuple(numbers), 0, 0.0, 0.0))[0]

    def _base(self, types: Mapping[str, Type]) -> Type:
        """The type of most weights: the one that the file is said to be of."""
        weights: Counter[str] = Counter()
        for tensor in self.skeleton.tensors:
            if ROLE_TYPES[tensor.role] is None:
                weights[types[tensor.name].name] += tensor.n_weights
        return TYPES[max(weights, key=lambda name: (weights[name], name))]
