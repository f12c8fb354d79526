"""Agreement as one HTML page: no script, no request, only what the JSON has (docs/json.md), and the sounds of the worst
clips where they are given.

The page is agreement.html.j2 within base.html.j2 of runtime_check/report/page.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jinja2

from mimo_convert.numbers_text import percent
from runtime_check.audio.wave import Sound
from runtime_check.report.page.page import environment
from runtime_check.report.page.sounds import MOST_BYTES, SoundView, views
from runtime_check.report.safe_text import safe
from runtime_check.run.compare.fidelity import DRAWS
from runtime_check.text.words import EQUAL, Span, WordErrors

from ...records import Agreement, WorstClip
from ...words import align
from ..heard import NO_SOUNDS, Heard
from ..views import (
    FileView,
    about,
    columns_of,
    conditions_of,
    errors_of,
    files_of,
    machine_columns_of,
    rate_name,
    rate_of,
)
from .plots import plots_of

LONGEST = 3000  # characters of a text that is aligned; loops are cut
SMALLER = "Further left is smaller, further down nearer to {}; both scales are logarithmic."


class Hypothesis(NamedTuple):
    """What a file heard in a clip: its alignment with the text, normalised."""

    file: str
    errors: WordErrors
    spans: list[Span]


class WorstView(NamedTuple):
    """A clip in a condition, of the worst of some files, with what they heard; `sound` is None if it is not given."""

    clip: str
    condition: str
    hypotheses: list[Hypothesis]
    sound: SoundView | None


def as_html(agreement: Agreement, sounds: Mapping[Heard, Sound] = NO_SOUNDS) -> str:
    """The agreement as an HTML page, deterministic, with a player for each of the worst clips that is in `sounds`, as
    it was heard in the condition, as far as there is room for them."""
    told: Agreement = safe(agreement)
    files = files_of(told)
    return template().render(
        agreement=told,
        about=about(told),
        files=files,
        columns=[*columns_of(told), *machine_columns_of(told)],
        conditions=conditions_of(told),
        n_words=errors_of(told, files[0].overall).words,
        rate_name=rate_name(told),
        rate=lambda row: rate_of(told, row),
        names={file.data.sha256: file.name for file in files},
        plots=plots_of(told, files),
        worst=worst_of(told, files, sounds),
        errors_of=lambda row: errors_of(told, row),
        percent=percent,
        DRAWS=DRAWS,
    )


@cache
def template() -> jinja2.Template:
    """The page's template."""
    return environment(Path(__file__).parent).get_template("agreement.html.j2")


# ── worst clips ──────────────────────────────────────────────────────────────────────────────────────────────────


def worst_of(agreement: Agreement, files: Sequence[FileView], sounds: Mapping[Heard, Sound]) -> list[WorstView]:
    """The worst clips, each once in a condition, those with the most errors first."""
    by_heard: dict[Heard, list[WorstClip]] = {}
    for one in agreement.worst:
        by_heard.setdefault((one.sha256, one.condition), []).append(one)
    in_order = sorted(by_heard.items(), key=lambda item: -max(one.errors.errors for one in item[1]))
    languages = {clip.sha256: clip.language for clip in agreement.clips}
    order = {file.data.sha256: number for number, file in enumerate(files)}
    found, room = [], MOST_BYTES
    for heard, answers in in_order:
        players: list[SoundView] = []
        if heard in sounds:
            players, room = views([sounds[heard]], room)
        hypotheses = [
            Hypothesis(files[order[one.file]].title, one.errors, spans_of(one, languages.get(one.sha256, "")))
            for one in sorted(answers, key=lambda one: order[one.file])
        ]
        found.append(WorstView(answers[0].clip, answers[0].condition, hypotheses, next(iter(players), None)))
    return found


def spans_of(worst: WorstClip, language: str) -> list[Span]:
    """The alignment of a transcript with its text, by which errors are counted."""
    spans = align(worst.text[:LONGEST], worst.transcript[:LONGEST], language)
    is_cut = max(len(worst.text), len(worst.transcript)) > LONGEST
    return [*spans, *([Span(EQUAL, "…")] if is_cut else [])]
