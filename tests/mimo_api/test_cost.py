"""What a conversion costs is said, and asked, before anything large is downloaded."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from mimo_api import ConvertOptions, Cost, convert, cost
from tests.hub_server.server import serve, use
from tests.synthetic import write_audio_tokenizer, write_speech_lm

LM, TOKENIZER = "Some/Speech-LM", "Some/Audio-Tokenizer"


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConvertOptions]:
    """A conversion of a pair that is on the Hub, where a few bytes are worth a question."""
    monkeypatch.setattr(cost, "WORTH_ASKING", 100)
    lm, tokenizer = write_speech_lm(tmp_path / "lm"), tmp_path / "tokenizer"
    write_audio_tokenizer(tokenizer)
    with serve({LM: {"main": lm}, TOKENIZER: {"main": tokenizer}}) as hub:
        use(hub, tmp_path / "home", monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield ConvertOptions(
            LM, types=["q8_0"], companions={"audio_tokenizer": TOKENIZER}, out=tmp_path / "out", checked=False
        )


def test_whoever_does_not_agree_downloads_and_writes_nothing(options: ConvertOptions, tmp_path: Path) -> None:
    asked: list[Cost] = []
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt, match="nothing was downloaded"):
        convert(options, message=said.append, agree=lambda cost: bool(asked.append(cost)))
    [found] = asked
    sizes = [
        sum(file.stat().st_size for file in (tmp_path / name).glob("*.safetensors")) for name in ("lm", "tokenizer")
    ]
    assert [nbytes for _, nbytes in found.downloads] == sizes
    assert found.seconds == pytest.approx(sum(sizes) / found.rate)
    assert re.fullmatch(
        r"downloads .* of Speech-LM and .* of Audio-Tokenizer; about \d+ s at the .*B/s measured now; writes .* to .*",
        said[-1],
    )
    assert not list(tmp_path.glob("cache/**/*.safetensors"))
    assert not (tmp_path / "out").exists()


def test_what_is_in_the_cache_costs_nothing_and_is_not_asked_about(options: ConvertOptions) -> None:
    asked: list[Cost] = []
    converted = convert(options, agree=lambda cost: asked.append(cost) or True)
    assert sum(one.bytes for one in converted.report.conversions) == pytest.approx(asked[0].write, rel=0.01)
    convert(replace(options, force=True), agree=lambda cost: asked.append(cost) or True)
    assert len(asked) == 1
