"""Waves, their log-mel and their codes are judged by what is heard."""

import numpy as np
import pytest

from runtime_check.gate import CODES, LOG_MEL, WAVE
from runtime_check.run.compare.measures import mean_difference, snr_db
from runtime_check.run.compare.stages import compare
from runtime_check.run.compare.thresholds import OF_WAVE, VOCODER
from runtime_check.run.stages import Stage

STAGES = (
    Stage("wave", "voice", WAVE, ("samples",), VOCODER),
    Stage("mel", "voice", LOG_MEL, ("frames", "bins"), VOCODER),
    Stage("codes", "voice", CODES, ("frames", "codebooks"), OF_WAVE),
)
RNG = np.random.default_rng(0)
WAVE_OF = RNG.standard_normal(4000).astype(np.float32)
NOISE = RNG.standard_normal(4000).astype(np.float32)


@pytest.mark.parametrize("ratio", [20, 60, 90])
def test_snr_is_the_power_of_the_wave_by_that_of_the_noise(ratio: float) -> None:
    scaled = NOISE * np.linalg.norm(WAVE_OF) / np.linalg.norm(NOISE) * 10 ** (-ratio / 20)
    assert snr_db(WAVE_OF.astype(np.float64) + scaled, WAVE_OF.astype(np.float64)) == pytest.approx(ratio)


def test_snr_of_equal_waves_is_infinite_and_of_silence_beside_sound_none() -> None:
    assert snr_db(WAVE_OF, WAVE_OF) == np.inf
    assert snr_db(WAVE_OF, np.zeros_like(WAVE_OF)) == -np.inf
    assert mean_difference(np.ones((3, 2)), np.array([[1, 2], [0, 1], [1, 1]])) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("outtype", "noise", "mel", "codes", "failed"),
    [
        ("f32", 1e-6, 0, 0, []),
        ("f32", 1e-3, 0, 0, ["wave"]),
        ("f16", 1e-3, 0, 0, []),
        ("f16", 1e-2, 0.01, 0, ["wave", "mel"]),
        ("q8_0", 0.5, 0.02, 30, []),
        ("q8_0", 0.5, 0.09, 60, ["mel", "codes"]),
        ("q4_k", 0.5, 0.2, 99, []),  # the share is reported alone
        ("q4_k", 0.5, 0.5, 99, ["mel"]),
    ],
)
def test_each_type_has_its_thresholds(outtype: str, noise: float, mel: float, codes: int, failed: list[str]) -> None:
    theirs = {"wave": WAVE_OF, "mel": np.zeros((100, 4), np.float32), "codes": np.zeros((100, 1), np.int32)}
    ours = {"wave": WAVE_OF + np.float32(noise) * NOISE, "mel": theirs["mel"] + np.float32(mel)}
    ours["codes"] = (np.arange(100) < codes).astype(np.int32)[:, None]
    found = compare(STAGES, ours, theirs, {"voice": outtype})
    assert [gate.stage for gate in found.gates if not gate.passed] == failed
    results = {result.name: result for result in found.stages}
    assert results["wave"].snr_db == pytest.approx(-20 * np.log10(noise), abs=0.5)
    assert results["mel"].log_mel == pytest.approx(mel)
    assert results["codes"].agreement == pytest.approx(1 - codes / 100)


@pytest.mark.parametrize("wrong", [WAVE_OF[:-1], np.full_like(WAVE_OF, np.nan)])
def test_a_wave_of_another_length_or_not_finite_fails(wrong: np.ndarray) -> None:
    found = compare(STAGES, {"wave": wrong}, {"wave": WAVE_OF}, {"voice": "q2_k"})
    assert not found.passed
