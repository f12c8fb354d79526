import numpy as np
import pytest
import torch

from mimo_convert.model.checkpoint import Checkpoint
from mimo_families.mimo_tokenizer import layout
from mimo_families.mimo_tokenizer.decoder import harness, reference
from quantize.errors import InputError
from runtime_check.pytorch.weights import CheckpointWeights
from runtime_check.run.compare.measures import snr_db

from . import plain
from .conftest import CONFIG, DecoderOf, random_codes


def test_every_stage_is_that_of_the_definition(decoder_of: DecoderOf, checkpoint: Checkpoint) -> None:
    """Harness, PyTorch, and a third writing in float64, which shares no code with either; more mel frames than are
    attended to together, and than the vocoder's window is wide."""
    codes = random_codes(21)
    weights = {name: info.read_float32().reshape(info.shape).astype(np.float64) for name, info in stored(checkpoint)}
    expected = plain.decode(codes, weights, {**CONFIG, "hop_length": 240})
    ours = decoder_of("f32").stages(codes)
    d, w = layout.dimensions(checkpoint.config), CheckpointWeights(checkpoint, torch.float32)
    theirs = {name: x.numpy() for name, x in reference.decode(torch.from_numpy(codes), w, d).items()}
    assert set(ours) == set(theirs) == set(expected)
    for name, stage in expected.items():
        for found in (ours[name], theirs[name]):
            assert found.shape == stage.shape, name
            assert np.abs(found - stage).max() <= 1e-5 * np.abs(stage).max(), name
    assert len(ours["wave"]) == 960 * len(codes)
    assert min(snr_db(ours["wave"], expected["wave"]), snr_db(theirs["wave"], expected["wave"])) >= 90


def stored(checkpoint: Checkpoint) -> list[tuple[str, object]]:
    return [(name, info) for name, info in checkpoint.tensors.items() if "decoder" in name or name.endswith("embed")]


@pytest.mark.parametrize(("outtype", "least"), [("f16", 50), ("bf16", 35), ("q8_0", 20)])
def test_other_types_are_near(decoder_of: DecoderOf, outtype: str, least: float) -> None:
    codes = random_codes(40)
    assert snr_db(decoder_of(outtype).decode(codes), decoder_of("f32").decode(codes)) >= least


def test_pieces_are_decoded_each_alone(decoder_of: DecoderOf, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, codes = decoder_of("f32"), random_codes(25)
    monkeypatch.setattr(harness, "PIECE_FRAMES", 10)
    parts = [decoder.decode(codes[i : i + 10]) for i in (0, 10, 20)]
    np.testing.assert_array_equal(decoder.decode(codes), np.concatenate(parts))
    stages = decoder.stages(codes)
    np.testing.assert_array_equal(stages["wave"], np.concatenate(parts))
    assert len(stages["dec_mel"]) == 4 * 25


def test_no_codes_are_a_second_of_silence(decoder_of: DecoderOf) -> None:
    np.testing.assert_array_equal(decoder_of("f32").decode(random_codes(0)), np.zeros(24_000, np.float32))


def test_fewer_codebooks_are_those_that_come_first(decoder_of: DecoderOf, checkpoint: Checkpoint) -> None:
    codes = random_codes(5, codebooks=3)
    d, w = layout.dimensions(checkpoint.config), CheckpointWeights(checkpoint, torch.float32)
    expected = reference.decode(torch.from_numpy(codes), w, d)["wave"].numpy()
    assert snr_db(decoder_of("f32").decode(codes), expected) >= 90


@pytest.mark.parametrize(
    ("codes", "what"),
    [
        (np.full((3, 8), 32), "frame 0 has code 32 of codebook 0; expected 0 to 31"),
        (np.array([[0, 0], [0, -1]]), "frame 1 has code -1 of codebook 1; expected 0 to 31"),
        (np.zeros((3, 9), int), "have the shape 3×9; expected frames × 1 to 8 codebooks"),
    ],
)
def test_codes_out_of_range_are_one_clear_error(decoder_of: DecoderOf, codes: np.ndarray, what: str) -> None:
    with pytest.raises(InputError) as error:
        decoder_of("f32").decode(codes)
    assert what in str(error.value)
