"""Another model is told from the headers, by name; a damaged one is still the same."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mimo_convert.formats.gguf import Entry
from mimo_convert.model.checkpoint import open_checkpoint
from mimo_convert.model.source_model import SourceModel
from mimo_families.mimo_audio.system import SYSTEM
from mimo_families.mimo_tokenizer.system import SYSTEM as TOKENIZER_SYSTEM
from mimo_families.same_model import check_reference_model, check_same
from quantize.errors import InputError
from runtime_check.run.activations import Activations
from runtime_check.run.references.sources import Reference
from tests.conftest import SMALL_LM
from tests.opened import (
    TINY_REFERENCE,
    load_reference,
    model_of_checkpoint,
    model_of_file,
    open_tiny,
    open_tiny_tokenizer,
)
from tests.synthetic import write_speech_lm

SmallFiles = Callable[[bool, str], Path]


@pytest.fixture(scope="module")
def tiny() -> dict[str, SourceModel]:
    models = [model_of_checkpoint(checkpoint) for checkpoint in (open_tiny(), open_tiny_tokenizer())]
    return {model.family.role: model for model in models}


def said(ours: SourceModel, theirs: SourceModel) -> str:
    with pytest.raises(InputError) as error:
        check_same(ours, theirs)
    return str(error.value)


def test_a_file_and_what_it_was_made_from_are_the_same_model(small_lm: Path, small_lm_files: SmallFiles) -> None:
    source = model_of_checkpoint(open_checkpoint(small_lm))
    for fused, name in ((False, "f16"), (True, "q4_k")):
        check_same(model_of_file(small_lm_files(fused, name)), source)


def test_a_model_of_other_sizes_is_another_and_both_are_named(
    small_lm_files: SmallFiles, tiny: dict[str, SourceModel]
) -> None:
    path = small_lm_files(False, "f16")
    line = said(model_of_file(path), tiny["speech_lm"])
    assert "is another model: tiny, with num_heads 2, num_kv_heads 1, head_dim 128; expected small-lm" in line
    assert line.endswith(f"small-lm as it is in {path}, with num_heads 4, num_kv_heads 2, head_dim 32")


def test_a_model_of_another_family_is_another(tiny: dict[str, SourceModel]) -> None:
    line = said(tiny["speech_lm"], tiny["audio_tokenizer"])
    assert "is tiny-tokenizer, of mimo_tokenizer; expected mimo_asr, as " in line


def with_tokens(model: SourceModel, tokens: list[str]) -> SourceModel:
    """The same model elsewhere, with another vocabulary."""
    metadata = [
        Entry(entry.key, tokens, entry.value_type) if entry.key == "tokenizer.ggml.tokens" else entry
        for entry in model.metadata
    ]
    return dataclasses.replace(model, where=Path("elsewhere"), name="other", metadata=metadata)


def test_a_model_of_another_vocabulary_is_another_and_one_that_was_cut_is_not(tiny: dict[str, SourceModel]) -> None:
    model = tiny["speech_lm"]
    tokens = next(list(entry.value) for entry in model.metadata if entry.key == "tokenizer.ggml.tokens")
    line = said(model, with_tokens(model, [f"<{token}>" for token in tokens]))
    assert (
        "elsewhere: is another model: tiny, 0 of whose 1,024 tokens are the same; expected the vocabulary of tiny in "
        in line
    )
    check_same(model, with_tokens(model, tokens[:1017]))
    check_same(with_tokens(model, [*tokens[:300], "a", "b", *tokens[302:]]), model)


def test_models_of_other_names_are_compared_with_a_warning(
    small_lm: Path, tiny: dict[str, SourceModel], capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = open_checkpoint(small_lm)
    ours = model_of_checkpoint(checkpoint.of_base_model("Some/One", "--base-model"))
    theirs = model_of_checkpoint(checkpoint.of_base_model("Some/Other", "--base-model"))
    check_same(ours, dataclasses.replace(theirs, where=Path("elsewhere")))
    hub = "https://huggingface.co/Some"
    line = f"warning: elsewhere is of {hub}/Other, and is compared with {small_lm} of {hub}/One\n"
    assert capsys.readouterr().err == line


# ── stored references ────────────────────────────────────────────────────────────────────────────────────────────


def stored(activations: Activations) -> Reference:
    return Reference(lambda clip, task, response: activations, activations)


def refused(models: dict[str, SourceModel], activations: Activations) -> str:
    with pytest.raises(InputError) as error:
        check_reference_model(SYSTEM, models, stored(activations), "ref")
    return str(error.value)


def test_the_stored_reference_of_the_model_is_accepted(tiny: dict[str, SourceModel]) -> None:
    reference = load_reference(TINY_REFERENCE)
    check_reference_model(SYSTEM, tiny, stored(reference), "ref")
    alone = {"audio_tokenizer": tiny["audio_tokenizer"]}
    check_reference_model(TOKENIZER_SYSTEM, alone, stored(reference), "ref")


def test_a_stored_reference_of_another_model_is_told_by_its_sizes(tiny: dict[str, SourceModel]) -> None:
    reference = load_reference(TINY_REFERENCE)
    made_of = "ref: is of another model, tiny and tiny-tokenizer, with"
    hidden = ("layer_", "prefill_audio", "prefill_inputs", "prefill_text_embeds", "prefill_last")
    wider = {name: np.repeat(x, 2, -1) for name, x in reference.stages.items() if name.startswith(hidden)}
    found = refused(tiny, dataclasses.replace(reference, stages=reference.stages | wider))
    assert found.startswith(f"{made_of} hidden_size 512; expected 256, as of tiny in ")
    deeper = {f"layer_{i:02}": reference.stages["layer_00"] for i in range(2, 36)}
    found = refused(tiny, dataclasses.replace(reference, stages=reference.stages | deeper))
    assert found.startswith(f"{made_of} num_layers 36; expected 2, as of tiny in ")
    mels = {"tok_mel": reference.stages["tok_mel"][:, :80]}
    found = refused(tiny, dataclasses.replace(reference, stages=reference.stages | mels))
    assert found.startswith(f"{made_of} n_mels 80; expected 128, as of tiny-tokenizer in ")


def test_a_stored_reference_of_the_audio_tokenizer_alone_is_none_of_a_pair(tiny: dict[str, SourceModel]) -> None:
    reference = load_reference(TINY_REFERENCE)
    encoder = {name: x for name, x in reference.stages.items() if name.startswith("tok_")}
    found = refused(tiny, dataclasses.replace(reference, stages=encoder))
    assert found == "ref: holds no stage of a speech lm; expected a reference of mimo_audio"


def test_a_checkpoint_of_another_vocabulary_than_the_reference_is_not_converted_first(
    tiny: dict[str, SourceModel], small_lm_files: SmallFiles
) -> None:
    reference = load_reference(TINY_REFERENCE)
    other = dataclasses.replace(reference, origin=dataclasses.replace(reference.origin, vocabulary_sha256="0" * 64))
    assert refused(tiny, other).startswith("ref: is of another vocabulary, that of tiny and tiny-tokenizer; expected")
    file = dataclasses.replace(tiny["speech_lm"], is_checkpoint=False)
    check_reference_model(SYSTEM, tiny | {"speech_lm": file}, stored(other), "ref")  # of a file it is a gate


def test_checkpoints_of_the_wrong_roles_are_no_reference(tiny: dict[str, SourceModel], tmp_path: Path) -> None:
    alone = Reference(lambda *_: load_reference(TINY_REFERENCE), checkpoints={"audio_tokenizer": open_tiny_tokenizer()})
    with pytest.raises(InputError, match="ref: is a checkpoint of audio tokenizer alone; expected one of mimo_asr, as"):
        check_reference_model(SYSTEM, tiny, alone, "ref")
    other = open_checkpoint(write_speech_lm(tmp_path / "other", **SMALL_LM))
    pair = Reference(alone.activations, checkpoints={"speech_lm": other, "audio_tokenizer": open_tiny_tokenizer()})
    with pytest.raises(InputError, match="is another model: other, with "):
        check_reference_model(SYSTEM, tiny, pair, "ref")
