"""Packs that are run from files by their hashes give the sums of one machine; a file that changes is refused."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from mimo_agreement.cluster.places import FileFacts, HashedPlaces
from mimo_api import CalibrateOptions, calibrate
from mimo_api.calibrating.checkpoints import opened
from mimo_api.calibrating.jobs import CalibratedModel, Pack
from mimo_api.calibrating.packs import PackRunner
from mimo_api.calibrating.planned import packs_over, places_of
from mimo_api.calibration import sizes_of
from mimo_convert.model.checkpoint import Checkpoint
from mimo_families.opening import OpenCheckpoints, open_main, open_members
from quantize.errors import InputError
from runtime_check.audio.manifests import find_clips
from runtime_check.calibrate import heard
from runtime_check.calibrate.per_clip.sums import AllSums, add_up
from runtime_check.calibrate.tensors import Sized, by_tensor
from runtime_check.run.references.sources import import_reference
from runtime_check.run.system import Task

ENGLISH = Task(language="english")
BASE = "tiny-qwen3"


@dataclass
class Asked:
    """A model and packs of clips, whose files lie in a folder under other names."""

    main: Checkpoint
    sized: list[Sized]
    model: CalibratedModel
    places: HashedPlaces
    packs: list[Pack]

    @property
    def runner(self) -> PackRunner:
        return PackRunner(self.model, self.places, 1)


def asked(model: str, manifest: Path, folder: Path, chosen: set[str] | None = None) -> Asked:
    """Packs of the chosen clips of a manifest, by their hashes (None: all)."""
    checkpoints = OpenCheckpoints()
    system, main = open_main(model, checkpoints)
    found = open_members(system, main, model, {}, checkpoints)
    files = sorted(find_clips([manifest]), key=lambda file: file.sha256)
    files = [file for file in files if chosen is None or file.sha256 in chosen]
    wanted, places = places_of(system, found, ENGLISH, files)
    (folder / "root").mkdir()
    for sha256, path in places.paths.items():
        shutil.copy(path, folder / "root" / sha256[:8])
    facts = {sha256: FileFacts(path.name, path.stat().st_size) for sha256, path in places.paths.items()}
    here = import_reference(model, system.calibration, "open_forwards")(found, ENGLISH)
    responses = {heard.name_of(file, 0): here.response(file.text or "") for file in files}
    packs = packs_over(files, responses, system.cutting)
    hashed = HashedPlaces((folder / "root",), folder / "cache", facts)
    return Asked(main, list(sizes_of(system, main)), wanted, hashed, packs)


def test_packs_of_a_pair_give_the_sums_of_one_machine(manifest: Path, tmp_path: Path) -> None:
    calibrated = calibrate(CalibrateOptions("tiny", tmp_path / "c.gguf", [manifest], 1, language="english"))
    chosen = {clip.sha256 for clip in calibrated.clips if clip.part == "calibration"}
    of = asked("tiny", manifest, tmp_path, chosen)
    pieces = [piece.clip for pack in of.packs for piece in pack.pieces]
    assert len(of.packs) > 2
    assert pieces == sorted(chosen)
    assert [pack.number for pack in of.packs] == list(range(len(of.packs)))
    total, runner = AllSums(), of.runner
    for pack in of.packs:
        add_up(total, runner.run(pack).sums)
    named = by_tensor(of.sized, total)
    assert named.keys() == calibrated.columns.keys()
    for name, expected in calibrated.columns.items():
        np.testing.assert_array_equal(named[name].columns.squares, expected.squares)
        np.testing.assert_array_equal(named[name].columns.sums, expected.sums)
        assert named[name].count == expected.count


def test_a_file_that_changes_is_refused(manifest: Path, tmp_path: Path) -> None:
    of = asked(BASE, manifest, tmp_path)
    runner = of.runner
    runner.run(of.packs[0])
    [shard, *_] = [sha256 for name, sha256 in of.model.checkpoints["asr"].files.items() if name.endswith("safetensors")]
    path = tmp_path / "root" / shard[:8]
    path.write_bytes(path.read_bytes())
    runner.run(of.packs[0])  # the same content
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(InputError, match=r"safetensors: is not on this machine any more, or has changed"):
        runner.run(of.packs[0])


def test_a_checkpoint_is_opened_by_links_wherever_its_files_lie(manifest: Path, tmp_path: Path) -> None:
    of = asked(BASE, manifest, tmp_path)
    files = of.model.checkpoints["asr"]
    found = opened(files, of.places)
    assert found.name == of.main.name == BASE
    assert found.tensors.keys() == of.main.tensors.keys()
    assert {path.name for path in found.folder.iterdir()} == files.files.keys()
    shutil.move(tmp_path / "root" / files.files["config.json"][:8], tmp_path / "root" / "elsewhere")
    moved = HashedPlaces(of.places.roots, of.places.cache, of.places.files)
    assert opened(files, moved).config.values == of.main.config.values
