"""The Pareto front."""

from hypothesis import given
from hypothesis import strategies as st

from mimo_agreement.statistics.front import Point, front

POINTS = st.lists(st.tuples(st.integers(1, 6), st.one_of(st.none(), st.integers(0, 6))), max_size=12).map(
    lambda found: [Point(str(i), nbytes, cost) for i, (nbytes, cost) in enumerate(found)]
)


@given(POINTS)
def test_the_front_is_what_no_other_dominates(points: list[Point]) -> None:
    def dominates(one: Point, other: Point) -> bool:
        if one.cost is None or other.cost is None:
            return False
        both = one.bytes <= other.bytes and one.cost <= other.cost
        return both and (one.bytes < other.bytes or one.cost < other.cost)

    kept = [point for point in points if point.cost is not None and not any(dominates(one, point) for one in points)]
    assert front(points) == tuple(point.file for point in sorted(kept, key=lambda point: (point.bytes, point.file)))
