"""What the GGUF lint finds in a file, and files with one thing changed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gguf import GGUFValueType as V

from mimo_convert.plan.request import Request
from mimo_convert.write.convert import convert
from runtime_check.gate import LINT
from runtime_check.static.records import LintResult
from tests.gguf_edit import Key, rewrite
from tests.opened import lint

LM_RULES = [
    "structure", "architecture", "metadata", "tensors", "shapes", "vocabulary", "merges", "token types",
    "special tokens", "padding", "types", "numbers", "constant tensors",
]  # fmt: skip
OF_WEIGHTS = ["numbers", "constant tensors", "scales"]
TOKENIZER_RULES = [name for name in LM_RULES if name not in LM_RULES[5:10]]


def checked(path: Path) -> LintResult:
    return lint(path, threads=2)


def problems(path: Path) -> dict[str, tuple[str, ...]]:
    """What is wrong with a file, by rule."""
    result = checked(path)
    found = {rule.name: rule.findings for rule in result.rules if rule.findings}
    assert result.passed == (not found)
    assert [(gate.stage, gate.kind) for gate in result.gates] == [(rule.name, LINT) for rule in result.rules]
    failed = {gate.stage: gate for gate in result.gates if not gate.passed}
    assert {name: gate.text for name, gate in failed.items()} == {n: "\n".join(lines) for n, lines in found.items()}
    assert all(gate.value == len(found.get(gate.stage, ())) and gate.bound == 0 for gate in result.gates)
    return found


def only(path: Path, rule: str) -> str:
    """The one thing that is wrong with a file, of this rule."""
    found = problems(path)
    assert list(found) == [rule], found
    [line] = found[rule]
    assert line.isprintable()
    return line


def run(request: Request, out: Path) -> Path:
    [plan] = convert([request], out, threads=2)
    return out / plan.file_name


def changed(**keys: Key | None) -> Callable[[Key], Key | None]:
    """Each key that is named, with `__` for a point, becomes another."""
    return lambda key: keys.get(key.name.replace(".", "__"), key)


def valued(source: Path, target: Path, name: str, value: Any, type: V | None = None) -> Path:
    """The file with one value changed, or taken out if that is None."""

    def change(key: Key) -> Key | None:
        if key.name != name:
            return key
        return None if value is None else key._replace(value=value, **({"type": type} if type else {}))

    return rewrite(source, target, keys=change)


NORM, UP, EMBED = "llm.final_norm.weight", "model.layers.1.ffn.up.weight", "llm.embed.weight"
