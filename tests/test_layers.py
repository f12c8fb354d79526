"""The layers of the project: imports go down, torch and ggml stay in their rooms, folders and files stay small."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [  # from the bottom; each imports itself and what stands before it
    ["quantize"],
    ["mimo_convert"],
    ["runtime_check"],
    ["mimo_families"],
    ["mimo_agreement"],
    ["mimo_publish", "mimo_nightly"],
    ["mimo_api"],
    ["mimo_commands"],
]
LEVEL = {package: level for level, packages in enumerate(LAYERS) for package in packages}
FOLDERS = {  # inside a package, likewise
    "mimo_convert": ["command", "sources", "formats", "model", "plan", "write", "budget"],
    "runtime_check": [
        "audio",
        "text",
        "products",
        "ggml",
        "pytorch",
        "static",
        "tensors",
        "run",
        "report",
        "calibrate",
    ],
}
TORCH = ("runtime_check/pytorch/", "runtime_check/calibrate/")  # the folders that import it
MOST_FILES, MOST_LINES = 12, 400

Imports = dict[str, set[str]]


def imports(path: Path) -> set[str]:
    """Every module that the file imports, absolute, also inside of functions."""
    found = set()
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


@pytest.fixture(scope="module")
def sources() -> Imports:
    files = [path for package in LEVEL for path in (ROOT / package).rglob("*.py")]
    return {str(path.relative_to(ROOT)): imports(path) for path in files}


def test_imports_go_down(sources: Imports) -> None:
    for file, imported in sources.items():
        package = file.split("/")[0]
        for name in imported:
            other = name.split(".")[0]
            if other in LEVEL and other != package:
                assert LEVEL[other] < LEVEL[package], f"{file} imports {name}"


def test_folders_of_a_package_import_down(sources: Imports) -> None:
    for package, folders in FOLDERS.items():
        levels = {f"{package}.{folder}": level for level, folder in enumerate(folders)}
        for file, imported in sources.items():
            parts = file.split("/")
            if parts[0] != package:
                continue
            level = levels[".".join(parts[:2])] if len(parts) > 2 else -1
            for name in imported:
                other = levels.get(".".join(name.split(".")[:2]))
                assert other is None or other <= level, f"{file} imports {name}"


def test_there_is_no_circle_between_files(sources: Imports) -> None:
    modules = {file.removesuffix(".py").replace("/", ".").removesuffix(".__init__"): file for file in sources}
    graph = {module: sources[file] & modules.keys() - {module} for module, file in modules.items()}

    left: set[str] = set()  # from which no circle is reached

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " → ".join([*trail[trail.index(module) :], module])
        if module in left:
            return
        for name in graph[module]:
            if not module.startswith(f"{name}.") and not name.startswith(f"{module}."):  # a package and its own modules
                visit(name, (*trail, module))
        left.add(module)

    for module in graph:
        visit(module, ())


def test_torch_is_imported_by_the_reference_alone(sources: Imports) -> None:
    for file, imported in sources.items():
        if any(name.split(".")[0] == "torch" for name in imported):
            of_family = file.startswith("mimo_families/") and file.endswith(("/reference.py", "/calibration.py"))
            assert file.startswith(TORCH) or of_family, file


def test_dask_is_imported_by_the_cluster_alone(sources: Imports) -> None:
    for file, imported in sources.items():
        if any(name.split(".")[0] in ("dask", "distributed") for name in imported):
            assert file.startswith("mimo_agreement/cluster/"), file


def test_no_ggml_in_the_reference(sources: Imports) -> None:
    for file, imported in sources.items():
        if file.startswith("runtime_check/pytorch/") or file.endswith("/reference.py"):
            reached = {name for name in imported if name.split(".")[0] == "ggml" or "runtime_check.ggml" in name}
            assert not reached, f"{file} imports {reached}"


def tracked_sources() -> list[Path]:
    """The project's Python and C++ files, as git knows them."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    found = [Path(name) for name in names if (ROOT / name).is_file()]
    return [path for path in found if path.suffix in (".py", ".h", ".cpp", ".c", ".j2")]


def test_no_folder_is_large_and_no_file_is_long() -> None:
    files = tracked_sources()
    crowded = {str(folder): n for folder, n in Counter(path.parent for path in files).items() if n > MOST_FILES}
    lines = {str(path): (ROOT / path).read_text().count("\n") for path in files}
    assert not crowded
    assert not {path: n for path, n in lines.items() if n > MOST_LINES}


@pytest.mark.parametrize("command", ["convert", "quantize", "calibrate", "check", "publish"])
def test_help_imports_no_slow_library(command: str) -> None:
    code = f"""
import sys
from mimo_commands import {command}
try:
    {command}.main(["--help"])
except SystemExit:
    pass
print(*sorted({{"torch", "ggml", "huggingface_hub", "pydantic", "distributed"}} & sys.modules.keys()), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout
    assert done.stderr.strip() == ""
