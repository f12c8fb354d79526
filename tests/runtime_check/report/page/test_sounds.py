"""Waves on the page are heard and seen as they are."""

import base64
import io
import zlib

import numpy as np
import soundfile

from runtime_check.audio.wave import Sound
from runtime_check.report.page.page import as_html
from runtime_check.report.page.sounds import MOST_SECONDS, ROWS, png, spectrogram, view, views
from tests import reports

RATE = 24_000


def tone(hertz: float, seconds: float, size: float = 0.5) -> Sound:
    t = np.arange(int(seconds * RATE)) / RATE
    return Sound("by the file", (size * np.sin(2 * np.pi * hertz * t)).astype(np.float32), RATE)


def data(url: str) -> io.BytesIO:
    return io.BytesIO(base64.b64decode(url.partition(",")[2]))


def test_a_player_has_the_tone() -> None:
    heard, rate = soundfile.read(data(view(tone(1000, 1)).audio))
    spectrum = np.abs(np.fft.rfft(heard))
    assert abs(np.argmax(spectrum) * rate / len(heard) - 1000) < 5
    assert 0.4 < np.abs(heard).max() < 0.6


def test_a_spectrogram_has_a_tone_at_its_height_whatever_else_is_there() -> None:
    levels = spectrogram(tone(3000, 1).wave)
    assert levels.shape[0] == ROWS
    middle = levels[:, levels.shape[1] // 2]
    assert abs(int(np.argmax(middle[::-1])) - 3000 / (RATE / 2) * ROWS) <= 1
    softer = spectrogram(tone(3000, 1, 0.05).wave)
    assert 50 < int(levels.max()) - int(softer.max()) < 80, "20 dB of 80"
    assert not spectrogram(np.zeros(RATE, np.float32)).any()


def test_the_image_is_a_png_by_the_standard() -> None:
    """Signature, chunks with their lengths and checksums; lines of indices, each behind the number of its filter."""
    levels = np.arange(128 * 40, dtype=np.uint16).reshape(128, 40).astype(np.uint8)
    found = io.BytesIO(png(levels))
    assert found.read(8) == bytes([137, 80, 78, 71, 13, 10, 26, 10])
    chunks = {}
    while head := found.read(8):
        size, kind = int.from_bytes(head[:4], "big"), head[4:]
        chunks[kind] = found.read(size)
        assert int.from_bytes(found.read(4), "big") == zlib.crc32(kind + chunks[kind])
    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    assert chunks[b"IHDR"] == (40).to_bytes(4, "big") + (128).to_bytes(4, "big") + bytes([8, 3, 0, 0, 0])
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(128, 41)
    assert not lines[:, 0].any()
    np.testing.assert_array_equal(lines[:, 1:], levels)
    assert len(chunks[b"PLTE"]) == 256 * 3
    assert tuple(chunks[b"PLTE"][:3]) == (0, 0, 4)


def test_long_waves_are_cut_and_what_has_no_room_is_left_out() -> None:
    long = view(tone(440, 30))
    assert (long.seconds, long.shown) == (30, MOST_SECONDS)
    assert len(soundfile.read(data(long.audio))[0]) < (MOST_SECONDS + 1) * RATE
    pair = [tone(440, 2), tone(880, 2)]
    shown, left = views(pair, 10_000_000)
    assert left == 10_000_000 - sum(len(one.audio) + len(one.image) for one in shown)
    hidden, same = views(pair, 1000)
    assert same == 1000
    assert all(not one.audio and not one.image and one.seconds == 2 for one in hidden)


def test_a_page_of_noise_stays_within_three_megabytes() -> None:
    noise = np.random.default_rng(0).standard_normal((MOST_SECONDS + 1) * RATE).astype(np.float32) * np.float32(0.1)
    sounds = [Sound("by the file", noise, RATE), Sound("by the reference", noise, RATE)]
    report = reports.report()
    page = as_html(report, dict.fromkeys(range(20), sounds))
    assert page.count("<audio controls") == 2 * min(len(report.checks), 20)
    assert len(page) < 3_000_000
