"""Targets about importance matrices: as GGUF, and as `.dat`, beside a file that is as it should be."""

from tests.fuzz import complete
from tests.fuzz.case import Case, Edits
from tests.fuzz.damage.gguf_format import build, edit_file, is_past_header, parse
from tests.fuzz.damage.mutate import edit_bytes
from tests.fuzz.seeds import FOUND, Seeds

LM = FOUND[0].replace("q8_0", "f16")
MATRIX, LEGACY = "imatrix.gguf", "imatrix.dat"
MOST_ENTRIES = 1000  # of a `.dat` that begins right


def imatrix(e: Edits, s: Seeds) -> Case:
    """One of both kinds is damaged, and a file quantized with it, or the conversion planned."""
    if e.choose.random() < 0.3:
        name, data = LEGACY, e.apply(edit_bytes, s.bytes(LEGACY))
        past = 0 < int.from_bytes(data[:4], "little") < MOST_ENTRIES
    else:
        name, data = MATRIX, build(e.apply(edit_file, s.parse(MATRIX, parse)))
        past = is_past_header(data)
    arguments = [LM, "out.gguf", "--outtype", "q4_0", "--imatrix", name, "--threads", "1"]
    arguments += e.choice_of([[], ["--dry-run"]])
    files = {LM: s.path(f"f16/{LM}"), name: data}
    return Case("mimo-quantize", arguments, files, past, outputs={"out.gguf": complete.gguf}, parts=True)
