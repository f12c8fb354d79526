"""Environments of their own: the project, from a wheel made of its sdist, with and without another family."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[3]
FAMILY = ROOT / "tests" / "murmur"
METADATA = "Metadata-Version: 2.1\nName: murmur\nVersion: 1.0\n"
REGISTRY_LINE = "[mimo_convert.families]\nmurmur = murmur.system:SYSTEM\n"
SDIST = """
import gzip, sys
from scikit_build_core.build import build_sdist
compress = gzip.GzipFile
gzip.GzipFile = lambda *names, **options: compress(*names, **options | {"compresslevel": 0})  # weights take long
print(build_sdist(sys.argv[1]))
"""


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    stdout: str
    stderr: str


class Environment(NamedTuple):
    """An environment with the project installed, its source tree off the path."""

    python: Path
    folder: Path  # where its commands run

    def run(self, command: str, *arguments: Any) -> Ended:
        """`mimo-<command>` with these arguments."""
        code = f"import sys; sys.argv[0] = 'mimo-{command}'; from mimo_commands.entry import {command} as main; main()"
        return self.execute("-c", code, *arguments)

    def execute(self, *arguments: Any) -> Ended:
        variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        variables |= {"HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
        done = subprocess.run(
            [self.python, *map(str, arguments)], cwd=self.folder, env=variables, capture_output=True, text=True
        )
        return Ended(done.returncode, done.stdout, done.stderr)


def install(folder: Path) -> None:
    """Into `folder`: `project`, what a wheel holds, built from the sdist; `family`, the other family's package."""
    build = [sys.executable, "-c", SDIST, folder / "dist"]
    sdist = (
        folder / "dist" / subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()[-1]
    )
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    quick = {
        "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count()),
        "SKBUILD_CMAKE_DEFINE": "CMAKE_CXX_FLAGS_RELEASE=-O1;LANES_VARIANTS=sse2;PRODUCTS_VARIANTS=avx2",
    }
    subprocess.run([*pip, "--wheel-dir", folder / "dist", sdist], cwd=folder, env=os.environ | quick, check=True)
    [wheel] = (folder / "dist").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "project")
    shutil.copytree(FAMILY, folder / "family" / "murmur", ignore=shutil.ignore_patterns("__pycache__"))
    about = folder / "family" / "murmur-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(METADATA)
    (about / "entry_points.txt").write_text(REGISTRY_LINE)
    for name, paths in {"with": ["project", "family"], "without": ["project"]}.items():
        make_environment(folder / name, [str(folder / path) for path in paths])


def make_environment(folder: Path, paths: list[str]) -> None:
    """A virtual environment that sees `paths`, and the libraries that the tests' own environment has."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "paths.pth").write_text("\n".join([*paths, sysconfig.get_path("purelib")]))


def environment(installed: Path, name: str, folder: Path) -> Environment:
    return Environment(installed / name / "bin" / "python", folder)


def json_of(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
