"""Sparklines of series over runs: SVG for the page, block characters for a terminal. Up is better.

All drawings of a target have one column per run.
"""

from collections.abc import Collection, Sequence

from markupsafe import Markup

from .figures import FAIL, HEADER_ONLY, NOT_CHECKED, PASS, Series

BLOCKS = "▁▂▃▄▅▆▇█"
GAP = "·"
COLUMN, HEIGHT, EDGE = 6, 24, 4  # units; EDGE is above and below a line, for what its ends are marked with
RING = "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0z"
CELLS = {  # what is drawn of a run, from the left end of its column: by its height, and by colour
    PASS: "m.75 9h4.5v10h-4.5z",
    FAIL: "m.75 0h4.5v19h-4.5z",
    NOT_CHECKED: "m1.25 9.5h3.5v9h-3.5z",
    HEADER_ONLY: "m.75 15h4.5v4h-4.5z",
}
SIGN = "m0 0l3-5l3 5z"  # of a change, below the cells


def blocks(series: Series) -> str:
    """A character per run."""
    return "".join(
        GAP if height is None else BLOCKS[min(int(height * len(BLOCKS)), len(BLOCKS) - 1)]
        for height in series.heights()
    )


def line(series: Series, description: str, changed: Collection[int] = ()) -> Markup:
    """The series as a line; a ring where the stage failed, a stroke where something `changed`."""
    at = [None if height is None else (COLUMN * (place + 0.5), EDGE + (1 - height) * (HEIGHT - 2 * EDGE))
          for place, height in enumerate(series.heights())]  # fmt: skip
    bottom = HEIGHT - EDGE
    failed = [at[place] or (COLUMN * (place + 0.5), bottom) for place in sorted(series.failed)]
    last = [point for point in at if point is not None][-1:]
    paths = [
        ("change", "".join(f"M{COLUMN * place:g} 0v{HEIGHT}" for place in sorted(changed))),
        ("join mean", _joined(at)),
        ("end", "".join(f"M{x:g} {y:.1f}h0" for x, y in last)),
        ("failed", "".join(f"M{x:g} {y:.1f}{RING}" for x, y in failed)),
    ]
    return _svg(len(at), HEIGHT, series.name, description, [_path(*path) for path in paths])


def strip(title: str, words: Sequence[str | None], notes: Sequence[str], changed: Collection[int] = ()) -> Markup:
    """A cell per run, by its state (None: no run); a mark where something `changed`."""
    cells = [
        Markup('<path class="cell {}" d="M{} 0{}"><title>{}</title></path>').format(
            word.lower().replace(" ", "-"), COLUMN * place, CELLS[word], note
        )
        for place, (word, note) in enumerate(zip(words, notes, strict=True))
        if word
    ]
    signs = "".join(f"M{COLUMN * place} 25.5{SIGN}" for place in sorted(changed))
    told = [word for word in words if word]
    description = ", ".join(f"{told.count(word)} {word}" for word in dict.fromkeys(told)) + ", the oldest first"
    return _svg(len(words), 26, title, description, [*cells, _path("sign", signs)])


def _joined(points: Sequence[tuple[float, float] | None]) -> str:
    """Lines between neighbours, with gaps at missing points; an isolated point is a dot."""
    data, pen = "", "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        x, y = point
        data += f"{pen}{x:g} {y:.1f}" + ("h0" if pen == "M" else "")
        pen = "L"
    return data


def _path(style: str, data: str) -> Markup:
    return Markup('<path class="{}" d="{}"/>').format(style, data) if data else Markup()


def _svg(columns: int, height: int, title: str, description: str, parts: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg class="spark" role="img" viewBox="0 0 {0} {1}" width="{0}" height="{1}" preserveAspectRatio="none">'
        "<title>{2}</title><desc>{3}</desc>{4}</svg>"
    ).format(COLUMN * columns, height, title, description, Markup("").join(parts))
