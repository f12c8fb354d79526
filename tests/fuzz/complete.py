"""Whether a file under a final name is all that it should be, by readers that are not ours."""

import json
from contextlib import suppress
from xml.etree import ElementTree

from tests.fuzz.damage import gguf_format


def gguf(data: bytes) -> bool:
    with suppress(Exception):
        file = gguf_format.parse(data)
        return gguf_format.build(file).startswith(data) and all(len(row.data) > 0 or 0 in row.dims for row in file.rows)
    return False


def json_object(data: bytes) -> bool:
    with suppress(ValueError):
        return isinstance(json.loads(data.decode()), dict)
    return False


def page(data: bytes) -> bool:
    return data.rstrip().endswith(b"</html>")


def xml(data: bytes) -> bool:
    with suppress(ElementTree.ParseError):
        return ElementTree.fromstring(data) is not None
    return False


def text(data: bytes) -> bool:
    with suppress(UnicodeDecodeError):
        return data.decode() != ""
    return False


REPORTS = {"report.json": json_object, "report.html": page, "report.xml": xml}
REPORT_OPTIONS = ["--json", "report.json", "--html", "report.html", "--junit", "report.xml"]
