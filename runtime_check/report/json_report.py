"""Reports as JSON, schema 2 (docs/json.md), and back; earlier schemas are upgraded by a family."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mimo_convert.fields import shown
from mimo_convert.formats.json_file import read_json
from quantize.errors import InputError
from runtime_check.gate import unexplained

from .finite import finite
from .records import SCHEMA, Report

MAKE_AGAIN = "make it again with --json"
Upgrades = Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]]  # schema → data of it as data of SCHEMA


def json_text(report: Report) -> str:
    """The report as JSON; bytes of file names that are not UTF-8 are escaped."""
    values = {"schema": report.schema, **asdict(report)}
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode(errors="backslashreplace").decode()


def read_report(path: Path, upgrades: Upgrades) -> Report:
    """Read a report that `--json` wrote. Raises InputError for any other file."""
    try:
        values = read_json(path)
    except InputError as error:
        raise InputError(path, error.what, expected="what --json wrote") from error
    return report_of(values, path, upgrades)


def report_of(values: dict[str, Any], where: object, upgrades: Upgrades) -> Report:
    """The report in JSON data from `where`. Raises InputError if it is malformed."""
    from pydantic import TypeAdapter, ValidationError  # late: it is slow to import, and most commands read no report

    schema = values.get("schema")
    if schema != SCHEMA and (not isinstance(schema, str) or schema not in upgrades):
        raise InputError(where, f"has the schema {shown(schema)}", expected=" or ".join(map(repr, (SCHEMA, *upgrades))))
    try:
        data = values if schema == SCHEMA else upgrades[schema](values)
        report: Report = explained(finite(TypeAdapter(Report).validate_python(data)))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        what = f"is not as a report should be: {key} is {shown(first['input'])}"
        raise InputError(where, what, expected=first["msg"], todo=MAKE_AGAIN) from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        what = f"is not as a report should be ({type(error).__name__}: {error})"
        raise InputError(where, what, todo=MAKE_AGAIN) from error
    return report


def explained(report: Report) -> Report:
    """Add a failed gate to every part that failed without one."""
    return replace(
        report,
        lint=tuple(map(_explained, report.lint)),
        tensors=tuple(map(_explained, report.tensors)),
        checks=tuple(map(_explained, report.checks)),
    )


def _explained(part: Any) -> Any:
    if part.passed is False and all(gate.passed for gate in part.gates):
        return replace(part, gates=(*part.gates, unexplained()))
    return part
