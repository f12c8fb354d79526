"""Whether what a model is compared with is the same model, as far as headers tell: said before long work.

A damaged file, or one of a damaged vocabulary, is still the model that it was, and fails its gates. Another model is of
another family, or most of its weights have other shapes, or most of its tokens are others.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mimo_convert.fields import shown
from mimo_convert.formats.vocabulary import vocabulary_sha256
from mimo_convert.model.adapter import WEIGHTS
from mimo_convert.model.family import Family
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.model.provenance import ADAPTER, ADAPTER_NAME, BASE, hashes_of_text
from mimo_convert.model.source_model import SourceModel, model_of_checkpoint, model_of_file
from mimo_convert.terminal import tell
from quantize.errors import InputError
from runtime_check.run.activations import Stages
from runtime_check.run.members import Paths
from runtime_check.run.references.sources import Reference
from runtime_check.run.stages import stage_named
from runtime_check.run.system import SystemType

Models = Mapping[str, SourceModel]  # of a system, by role
MOST = 0.5  # share of shapes, or of tokens, that another model may have in common with this one
MOST_SIZES = 3  # that differ, in a message
TOKENS, MERGES = "tokenizer.ggml.tokens", "tokenizer.ggml.merges"


def models_of(paths: Paths, files: OpenFiles) -> Models:
    """The models in the files of a system. Raises InputError for a file that could not be run."""
    return {role: model_of_file(path, files) for role, path in paths.items()}


def check_reference_model(system: SystemType, ours: Models, reference: Reference, source: str) -> None:
    """Raise InputError if the reference `source` is of another model than `ours`, the members of `system`."""
    if reference.stored:
        check_stored_sizes(system, ours, reference.stored.stages, reference.stored.origin.checkpoints, source)
        check_vocabulary(ours, reference.stored.origin.vocabulary_sha256, reference.stored.origin.checkpoints, source)
        return
    for family in system.families:
        model, checkpoint = ours.get(family.role), reference.checkpoints.get(family.role)
        if model is None or model.family.architecture != family.architecture:
            continue  # another file than its role says: who opens it tells that
        if checkpoint is None:
            roles = " and ".join(role.replace("_", " ") for role in reference.checkpoints)
            expected = f"one of {family.architecture}, as {model.where} is"
            raise InputError(source, f"is a checkpoint of {roles or 'no role'} alone", expected=expected)
        check_same(model, model_of_checkpoint(checkpoint, family))


def check_same(ours: SourceModel, theirs: SourceModel) -> None:
    """Raise InputError if `theirs`, which `ours` is to be compared with, is another model; tell of another name."""
    if ours.where == theirs.where:
        return
    if ours.family.architecture != theirs.family.architecture:
        what = f"is {name_of(theirs)}, of {theirs.family.architecture}"
        raise InputError(theirs.where, what, expected=f"{ours.family.architecture}, as {ours.where} is")
    check_adapters(ours, theirs)
    if share_of_shapes(ours, theirs) < MOST:
        what = f"is another model: {name_of(theirs)}, with {sizes_text(theirs, ours)}"
        raise InputError(theirs.where, what, expected=f"{name_and_where(ours)}, with {sizes_text(ours, theirs)}")
    tokens = values_of(ours, TOKENS), values_of(theirs, TOKENS)
    if ours.family.text and share_of_equal(*tokens) < MOST:
        n = sum(a == b for a, b in zip(*tokens, strict=False))
        what = f"is another model: {name_of(theirs)}, {n:,} of whose {len(tokens[1]):,} tokens are the same"
        raise InputError(theirs.where, what, expected=f"the vocabulary of {name_and_where(ours)}")
    repos = [value_of(model, f"{BASE}.0.repo_url") for model in (ours, theirs)]
    if all(repos) and repos[0] != repos[1]:
        tell(f"warning: {theirs.where} is of {repos[1]}, and is compared with {ours.where} of {repos[0]}")


def check_adapters(ours: SourceModel, theirs: SourceModel) -> None:
    """Raise InputError unless both models have the same adapter, by the hashes of its files, or none."""
    hashes = [adapter_hashes(model) for model in (ours, theirs)]
    if hashes[0] != hashes[1]:
        expected = f"{adapter_text(ours)}, as {ours.where} has"
        todo = "give it: --adapter DIR" if hashes[0] else "leave it out: --adapter none"
        raise InputError(theirs.where, f"has {adapter_text(theirs)}", expected=expected, todo=todo)


def adapter_hashes(model: SourceModel) -> dict[str, str]:
    """The sha256 of each file of a model's adapter by its name, whatever folder it is in; empty without one."""
    recorded = hashes_of_text(str(value_of(model, ADAPTER) or ""))
    return {name.rpartition("/")[2]: sha256 for name, sha256 in recorded.items()}


def adapter_text(model: SourceModel) -> str:
    """A model's adapter, for a message."""
    weights = adapter_hashes(model).get(WEIGHTS, "")
    return f"the adapter {value_of(model, ADAPTER_NAME)} ({WEIGHTS} {weights[:12]}…)" if weights else "no adapter"


def check_stored_sizes(
    system: SystemType, ours: Models, stages: Stages, checkpoints: Sequence[str], source: str
) -> None:
    """Raise InputError if stored stages are not as wide, or of as many layers, as the models compute them."""
    if stages and not any(is_of(system.family, system, name) for name in stages):
        what = f"holds no stage of a {system.family.role.replace('_', ' ')}"
        raise InputError(source, what, expected=f"a reference of {system.name}")
    found = dict(stored_sizes(system, stages))
    for size, (role, field) in system.sizes.items():
        model = ours.get(role)
        expected = getattr(model.dims, field, None) if model else None
        if model and expected is not None and found.get(size, expected) != expected:
            made_of = " and ".join(checkpoints) or "an unknown one"
            what = f"is of another model, {made_of}, with {field} {found[size]}"
            raise InputError(source, what, expected=f"{expected}, as of {name_and_where(model)}")


def is_of(family: Family, system: SystemType, name: str) -> bool:
    """Whether a stage is computed by a member of `family`."""
    stage = stage_named(system.stages, name)
    return stage is not None and stage.role == family.role


def stored_sizes(system: SystemType, stages: Stages) -> Iterator[tuple[str, int]]:
    """The size of each axis of stored stages, and the number of each numbered stage's layers."""
    for stage in system.stages:
        names = [name for name in stages if stage.matches(name)]
        for name in names:
            yield from zip(stage.dimensions, stages[name].shape, strict=False)
        if stage.numbered and names:
            yield stage.name, len(names)


def check_vocabulary(ours: Models, sha256: str, checkpoints: Sequence[str], source: str) -> None:
    """Raise InputError if a checkpoint has another vocabulary than the stored reference: its files could only fail.

    That of a GGUF file may be damaged: it is a gate.
    """
    for model in ours.values():
        if not (sha256 and model.is_checkpoint and model.family.text):
            continue
        if vocabulary_sha256(values_of(model, TOKENS), values_of(model, MERGES)) != sha256:
            what = f"is of another vocabulary, that of {' and '.join(checkpoints) or 'an unknown model'}"
            raise InputError(source, what, expected=f"that of {name_and_where(model)}")


# ── what is compared, and how it is named ────────────────────────────────────────────────────────────────────────


def share_of_shapes(ours: SourceModel, theirs: SourceModel) -> float:
    """The share of our tensors that have the same shape in the other model."""
    same = (theirs.tensors[name].shape == ours.tensors[name].shape for name in ours.tensors if name in theirs.tensors)
    return sum(same) / max(1, len(ours.tensors))


def share_of_equal(ours: Sequence[str], theirs: Sequence[str]) -> float:
    """The share of ids that are the same token in both."""
    return sum(a == b for a, b in zip(ours, theirs, strict=False)) / max(1, len(ours), len(theirs))


def sizes_text(model: SourceModel, other: SourceModel) -> str:
    """The first sizes of a model that differ from another's."""
    values = [(key.field, getattr(model.dims, key.field), getattr(other.dims, key.field)) for key in model.family.keys]
    differing = [f"{field} {shown(value)}" for field, value, others in values if value != others]
    return ", ".join(differing[:MOST_SIZES]) or "other shapes"


def name_of(model: SourceModel) -> str:
    """The model's name, as its source records it."""
    return str(value_of(model, f"{BASE}.0.name") or model.name)


def name_and_where(model: SourceModel) -> str:
    """The model's name, and the folder or file that is it."""
    return f"{name_of(model)} {'in' if model.is_checkpoint else 'as it is in'} {model.where}"


def value_of(model: SourceModel, key: str) -> Any:
    """The value of a metadata key; None if it is missing."""
    return next((entry.value for entry in model.metadata if entry.key == key), None)


def values_of(model: SourceModel, key: str) -> Sequence[str]:
    """A list in the metadata; empty if it is missing."""
    return value_of(model, key) or ()
