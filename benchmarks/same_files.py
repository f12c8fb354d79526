"""Whether today's commands write the files that another version writes: every type and layout, tensor by tensor.

`python -m benchmarks.same_files --old-python /tmp/old-venv/bin/python`, where that environment has version 0.5.0
installed: git worktree add /tmp/old c3945bd; python -m venv /tmp/old-venv; /tmp/old-venv/bin/pip install /tmp/old.
Takes three minutes of CPU, and 2 GB of disk. The exit status is 1 if anything differs that may not (MAY_DIFFER).
"""

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import click

from tests.mimo_commands.same.recorded import (
    PAIRS,
    RECORDED,
    RECORDED_PAIRS,
    commands,
    digests,
    read_contents,
    write_checkpoints,
)

SHOWN = 160  # characters of a value


@click.command()
@click.option(
    "--old-python", type=click.Path(exists=True, path_type=Path), required=True, help="Python with the old version."
)
@click.option("--record", is_flag=True, help=f"Write the hashes of the old files into {RECORDED.name}, for the tests.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to make everything.  [default: a temporary one]")
def main(old_python: Path, record: bool, folder: Path | None) -> None:
    """Write all files by both versions, print a table of what was compared, and then what differs."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        write_checkpoints(place / "checkpoints")
        versions = {
            made: write_files(python, place / "checkpoints", place / made)
            for made, python in (("old", old_python), ("new", Path(sys.executable)))
        }
        print("Files of", " and ".join(versions.values()), "by the gguf library\n")
        found = compare_folders(place / "old", place / "new")
        if record:
            RECORDED.parent.mkdir(exist_ok=True)
            hashes = {name: two for pair in RECORDED_PAIRS for name, two in digests(place / "old", pair).items()}
            RECORDED.write_text(json.dumps(hashes, indent=0) + "\n")
    print(*found, sep="\n")
    sys.exit(bool(found))


def write_files(python: Path, checkpoints: Path, out: Path) -> str:
    """Run every command line by the programs beside `python`; returns what they call their version."""
    for pair in PAIRS:
        for program, arguments in commands(pair, checkpoints, out):
            command = [python.with_name(program), *arguments]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    version = [python.with_name("mimo-convert"), "--version"]
    return subprocess.run(version, check=True, capture_output=True, text=True).stdout.strip()


def compare_folders(old: Path, new: Path) -> list[str]:
    """Print a row for each folder of files; returns a line for each difference."""
    files: dict[Path, list[Path]] = defaultdict(list)
    for file in sorted({path.relative_to(made) for made in (old, new) for path in made.rglob("*.gguf")}):
        files[file.parent].append(file)
    print("| folder | files | tensors | entries of metadata | bytes | differences |\n|" + " --- |" * 6)
    found: list[str] = []
    total = [0] * 5
    for folder, names in files.items():
        row = [len(names), 0, 0, 0, 0]
        for file in names:
            n_tensors, n_entries, differences = compare_files(old / file, new / file)
            found += [f"{file}: {difference}" for difference in differences]
            row = [row[0], row[1] + n_tensors, row[2] + n_entries, row[3] + size(new / file), row[4] + len(differences)]
        print(f"| {folder} | {' | '.join(f'{n:,}' for n in row)} |")
        total = [a + b for a, b in zip(total, row, strict=True)]
    print(f"| all | {' | '.join(f'{n:,}' for n in total)} |\n")
    return found


def compare_files(old: Path, new: Path) -> tuple[int, int, list[str]]:
    """The numbers of tensors and of metadata entries that were compared, and a line for each difference."""
    if not (old.is_file() and new.is_file()):
        return 0, 0, [f"is written by the {'old' if old.is_file() else 'new'} version alone"]
    ours, theirs = read_contents(new), read_contents(old)
    tensors = list(compare_rows("tensor", theirs.tensors, ours.tensors))
    entries = list(compare_rows("key", theirs.metadata, ours.metadata))
    padding = ["bytes between tensors differ"] if ours.data != theirs.data and not tensors else []
    return len(ours.tensors), len(ours.metadata), [*tensors, *entries, *padding]


def compare_rows(what: str, old: list[tuple[object, ...]], new: list[tuple[object, ...]]) -> Iterator[str]:
    """A line for each row that is not the same in both lists, by its name, or for their order."""
    theirs, ours = ({row[0]: row[1:] for row in rows} for rows in (old, new))
    for name in [*theirs, *(name for name in ours if name not in theirs)]:
        if theirs.get(name) != ours.get(name):
            yield f"{what} {name}: {str(theirs.get(name))[:SHOWN]} became {str(ours.get(name))[:SHOWN]}"
    if theirs == ours and old != new:
        yield f"{what}s stand in another order"


def size(path: Path) -> int:
    """Bytes of a file, 0 if it is not there."""
    return path.stat().st_size if path.is_file() else 0


if __name__ == "__main__":
    main()
