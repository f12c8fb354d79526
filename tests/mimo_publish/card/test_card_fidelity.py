"""Files side by side in the card."""

from dataclasses import replace

from mimo_publish.card import as_card
from tests import reports

from ..rendered import read, table


def test_files_stand_side_by_side_with_intervals_and_predictions() -> None:
    report = reports.side_by_side()
    assert report.fidelity is not None
    card = as_card(replace(report, publication=reports.publication_of(report.checks)))
    body = read(card)
    assert "Fidelity" in [heading.text for heading in body.all("h2")]
    said = "2 clips, 54 tokens, held out by calibration.gguf, which was made with synthetic speech."
    assert any(paragraph.text.startswith(said) for paragraph in body.all("p"))
    head, plain, mix = table(body, "file")[:3]
    assert head[3:] == [
        "KL divergence, mean",
        "median",
        "99 %",
        "equal top-1 tokens",
        "mean, to the first’s",
        "predicted",
    ]
    assert (plain[0], plain[-2:]) == ("mimo-asr-q4_k.gguf", ["1.00 (1.00–1.00)", "–"])
    assert (mix[0], mix[-2:]) == ("mimo-asr-q4_k-mix.gguf", ["0.50 (0.50–0.50)", "0.0032"])
    kl = report.fidelity.files[0].kl_mean
    assert plain[3] == f"{kl.value:.2g} ({kl.low:.2g}–{kl.high:.2g})"


def test_without_several_clips_there_is_no_such_part() -> None:
    assert "## Fidelity" not in as_card(reports.published_report())
