"""The house: imports go down, and torch stays in its room."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
FLOORS = [
    "quantize",
    "mimo_convert",
    "runtime_check",
    "publish",
    "watch",
]  # each may import itself and what is before it
MAY_REACH_UP = {  # the doors of their floors
    "quantize/cli.py",  # mimo-quantize runs the pipeline from file to file
    "mimo_convert/cli.py",  # mimo-convert checks what it wrote, and publishes it
    "runtime_check/cli.py",  # mimo-check nightly
}


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


def sources() -> dict[str, set[str]]:
    files = [path for floor in FLOORS for path in (ROOT / floor).rglob("*.py")]
    return {str(path.relative_to(ROOT)): imports(path) for path in files}


def test_imports_go_down() -> None:
    for file, imported in sources().items():
        above = FLOORS[FLOORS.index(file.split("/")[0]) + 1 :]
        reached = {name for name in imported if name.split(".")[0] in above}
        assert not reached or file in MAY_REACH_UP, f"{file} reaches up to {reached}"


def test_there_is_no_circle_between_files() -> None:
    graph = {}
    for file, imported in sources().items():
        module = file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        graph[module] = imported
    graph = {module: {name for name in imported - {module} if name in graph} for module, imported in graph.items()}

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " → ".join([*trail[trail.index(module) :], module])
        for name in graph[module]:
            # a package's __init__ may gather its own rooms
            if not module.startswith(f"{name}.") and not name.startswith(f"{module}."):
                visit(name, (*trail, module))

    for module in graph:
        visit(module, ())


def test_torch_is_imported_by_the_reference_alone() -> None:
    users = {file for file, imported in sources().items() if any(name.split(".")[0] == "torch" for name in imported)}
    assert users == {"runtime_check/reference.py"}
