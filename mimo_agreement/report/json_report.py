"""Agreement as JSON (docs/json.md), and back."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mimo_convert.fields import shown
from mimo_convert.formats.json_file import read_json
from quantize.errors import InputError
from runtime_check.report.finite import finite

from ..records import ALL_CONDITIONS, SCHEMA, Agreement

WHAT = "is not as a report of agreement should be"
MAKE_AGAIN = "make it again with mimo-check agreement --json"


def json_text(agreement: Agreement) -> str:
    """The agreement as JSON; bytes of file names that are not UTF-8 are escaped, numbers that are not finite null."""
    values = {"schema": agreement.schema, **asdict(finite(agreement))}
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode(errors="backslashreplace").decode()


def read_agreement(path: Path) -> Agreement:
    """Read what `mimo-check agreement --json` wrote. Raises InputError for any other file."""
    try:
        values = read_json(path)
    except InputError as error:
        raise InputError(path, error.what, expected="what mimo-check agreement --json wrote") from error
    return agreement_of(values, path)


def agreement_of(values: dict[str, Any], where: object) -> Agreement:
    """The agreement in JSON data from `where`. Raises InputError if it is malformed, or contradicts itself."""
    from pydantic import TypeAdapter, ValidationError  # late: it is slow to import, and most commands read no report

    if values.get("schema") != SCHEMA:
        raise InputError(where, f"has the schema {shown(values.get('schema'))}", expected=repr(SCHEMA))
    try:
        agreement: Agreement = TypeAdapter(Agreement).validate_python(finite(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        what = f"{WHAT}: {key} is {shown(first['input'])}"
        raise InputError(where, what, expected=first["msg"], todo=MAKE_AGAIN) from error
    _check_hashes(agreement, where)
    _check_rows(agreement, where)
    return agreement


def _check_hashes(agreement: Agreement, where: object) -> None:
    """Raise InputError for a file that stands twice, and for the SHA-256 of one that is not there."""
    often = Counter(file.sha256 for file in agreement.files)
    if twice := [sha256 for sha256, n in often.items() if n > 1]:
        raise InputError(where, f"{WHAT}: the file {shown(twice[0])} is there twice", todo=MAKE_AGAIN)
    smallest = () if agreement.smallest is None else (agreement.smallest,)
    named = {
        "baseline": (agreement.baseline,), "smallest": smallest, "front_wer": agreement.front_wer,
        "front_kl": agreement.front_kl, "rows": (row.file for row in agreement.rows),
        "worst": (one.file for one in agreement.worst), "quarantined": (one.file for one in agreement.quarantined),
    }  # fmt: skip
    for key, hashes in named.items():
        for sha256 in hashes:
            if sha256 not in often:
                what = f"{WHAT}: {key} names the file {shown(sha256)}"
                raise InputError(where, what, expected="the SHA-256 of one of its files", todo=MAKE_AGAIN)


def _check_rows(agreement: Agreement, where: object) -> None:
    """Raise InputError unless every file has one row in every condition, and one over all."""
    found = Counter((row.file, row.condition) for row in agreement.rows)
    expected = {
        (file.sha256, condition): 1 for file in agreement.files for condition in (ALL_CONDITIONS, *agreement.conditions)
    }
    for key in found | Counter(expected):
        if found[key] != expected.get(key, 0):
            what = f"{WHAT}: {found[key]} rows of the file {shown(key[0])} in {shown(key[1])}"
            raise InputError(where, what, expected=f"{expected.get(key, 0)}", todo=MAKE_AGAIN)
