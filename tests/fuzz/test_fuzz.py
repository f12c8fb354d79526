"""A moment of every target, always the same cases; `make fuzz` is for hours."""

from collections.abc import Iterator

import pytest

from tests.fuzz.damage.gguf_format import build, parse
from tests.fuzz.fuzz import Fuzzer, Tally, fuzzer, within
from tests.fuzz.scratch import scratch
from tests.fuzz.targets import TARGETS

SEED, SECONDS, LEAST, MOST = 13, 0.3, 12, 60  # cases, as many as there is time for


@pytest.fixture(scope="session")
def fuzz() -> Iterator[Fuzzer]:
    with scratch() as folder, fuzzer(folder) as made:
        yield made


@pytest.mark.parametrize("target", TARGETS)
def test_no_damage_does_harm(fuzz: Fuzzer, target: str) -> None:
    tally = fuzz.many(target, SEED, iter(range(MOST)), within(SECONDS, MOST, LEAST))
    assert not tally.found, as_text(tally)
    assert tally.past_header > 0.4 * tally.cases, "what is changed must not be refused at first sight"


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_not_damaged_is_taken(fuzz: Fuzzer, target: str) -> None:
    """Or else the damage would be done to what is refused in any case."""
    ends = [fuzz.run(target, SEED, number, edits=[])[1].status for number in range(4)]
    assert {0, 1}.intersection(ends), ends


@pytest.mark.parametrize("target", sorted(TARGETS.keys() - {"history"}))  # which began just now
def test_a_case_is_made_of_its_numbers_alone(fuzz: Fuzzer, target: str) -> None:
    first, again = (fuzz.make(target, SEED, 5)[0] for _ in range(2))
    assert first.arguments == again.arguments
    assert first.files == again.files


@pytest.mark.parametrize("name", ["q8_0/mimo-asr-q8_0.gguf", "q4_k/mimo-asr-q4_k.gguf", "f16/mimo-tokenizer-f16.gguf"])
def test_a_gguf_file_is_put_together_as_it_was(fuzz: Fuzzer, name: str) -> None:
    assert build(parse(fuzz.seeds.bytes(name))).startswith(fuzz.seeds.bytes(name))


def as_text(tally: Tally) -> str:
    """Every kind of failure, and the command that repeats it."""
    lines = []
    for (kind, cause), found in tally.found.items():
        lines += [f"{kind}: {cause}, {len(found)} of {tally.cases} cases", f"    {found[0].command}"]
    return "\n".join(lines)
