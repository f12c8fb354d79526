import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimo_families.mimo_tokenizer.decoder import reference
from mimo_families.mimo_tokenizer.decoder.waveform import inverse_stft


@given(n=st.integers(1, 9), nfft=st.sampled_from([8, 12]), hop=st.sampled_from([2, 3, 4]), seed=st.integers(0, 99))
def test_it_is_pytorchs(n: int, nfft: int, hop: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    spectrum = rng.standard_normal((n, nfft + 2), np.float32) * np.float32(3)
    window = (0.1 + rng.random(nfft)).astype(np.float32)
    ours = inverse_stft(spectrum, window, hop)
    theirs = reference.inverse_stft(torch.from_numpy(spectrum), torch.from_numpy(window), hop).numpy()
    assert ours.shape == (n * hop,)
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * max(1, np.abs(theirs).max()))


def test_a_wave_is_what_its_own_spectrum_gives() -> None:
    """numpy's forward transform, frame by frame, then back."""
    wave, hop, nfft = np.random.default_rng(0).standard_normal(40 * 4), 4, 16
    window = np.hanning(nfft + 1)[:-1]
    padded = np.pad(wave, ((nfft - hop) // 2, nfft))
    spectra = np.stack([np.fft.rfft(padded[i * hop : i * hop + nfft] * window) for i in range(40)])
    spectrum = np.concatenate([np.log(np.abs(spectra) + 1e-30), np.angle(spectra)], axis=1).astype(np.float32)
    np.testing.assert_allclose(inverse_stft(spectrum, window.astype(np.float32), hop), wave, atol=1e-5)


def test_magnitudes_end_at_100() -> None:
    """Of one bin, the constant: 100 in the middle of the frame, by the definition of the transform."""
    spectrum = np.full((1, 10), -50, np.float32)
    spectrum[0, 0], spectrum[0, 5:] = 80, 0
    np.testing.assert_allclose(inverse_stft(spectrum, np.ones(8, np.float32), 8), np.full(8, 100 / 8), rtol=1e-6)


def test_a_window_with_gaps_is_refused() -> None:
    with pytest.raises(ZeroDivisionError, match="the squared windows add up to 0"):
        inverse_stft(np.zeros((3, 10), np.float32), np.zeros(8, np.float32), 4)
