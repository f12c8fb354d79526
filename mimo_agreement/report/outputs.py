"""Output files of an agreement."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mimo_convert.files import check_can_write, write_whole
from runtime_check.audio.wave import Sound

from ..records import Agreement
from .heard import NO_SOUNDS, Heard


@dataclass(frozen=True)
class Outputs:
    """Output files, as JSON (docs/json.md), JUnit XML, an HTML page and CSV; None: none."""

    json: Path | None = None
    junit: Path | None = None
    html: Path | None = None
    csv: Path | None = None

    def check(self) -> None:
        """Raise InputError if one cannot be written; called before long work."""
        for path in (self.json, self.junit, self.html, self.csv):
            check_can_write(path)

    def write(self, agreement: Agreement, sounds: Mapping[Heard, Sound] = NO_SOUNDS) -> None:
        """Write the agreement, each file atomically; the page has players for `sounds`, as they were heard, too."""
        if self.json:
            from .json_report import json_text

            write_whole(self.json, json_text(agreement).encode())
        if self.junit:
            from .junit import as_junit

            write_whole(self.junit, as_junit(agreement))
        if self.csv:
            from .csv_report import as_csv

            write_whole(self.csv, as_csv(agreement).encode())
        if self.html:
            from .page.page import as_html

            write_whole(self.html, as_html(agreement, sounds).encode())


NO_OUTPUTS = Outputs()
