"""What is generated in the documents is what it would be now."""

import re

from mimo_families.mimo_audio.stages import STAGES
from mimo_families.mimo_audio.system import SYSTEM
from mimo_families.registry import SYSTEMS
from tools.documents.__main__ import readme
from tools.documents.runtimes import UNKNOWN, answer, lines

from .markdown import DOCS, README


def test_the_readme_is_as_the_registry_has_it() -> None:
    assert README.read_text(encoding="utf-8") == readme(), "run: python -m tools.documents"


def test_every_family_says_which_programs_run_it() -> None:
    assert {name: answer(SYSTEM, name) for name in ("CrispASR", "llama.cpp", "Ollama", "LM Studio", "Other")} == {
        "CrispASR": "**yes**", "llama.cpp": "no", "Ollama": "no", "LM Studio": "no", "Other": UNKNOWN,
    }  # fmt: skip
    for system in SYSTEMS:
        assert system.runtimes or system.not_run_by
        assert not {one.name for one in system.runtimes} & {one.name for one in system.not_run_by}
    table = "\n".join(lines(SYSTEMS))
    assert all(f"`{family.architecture}`" in table for system in SYSTEMS for family in system.families)


def test_the_picture_shows_a_run() -> None:
    """Of today's stages, and without anything that a reader's browser would load from elsewhere."""
    picture = (DOCS / "images/demo.svg").read_text(encoding="utf-8")
    shown = re.sub(r"<[^>]+>", " ", picture).replace("&#160;", " ")
    assert "PASS" in shown
    assert [stage.name for stage in STAGES if not stage.numbered and f" {stage.name} " not in shown] == []
    assert not re.search(r"(?:href|src|url)\s*[=(]\s*[\"']?\w+:", picture)
