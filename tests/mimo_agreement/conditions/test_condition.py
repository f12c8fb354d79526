"""Conditions as they are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_agreement.conditions.condition import NOISES, Condition, parse_condition
from quantize.errors import InputError

SNRS = st.integers(-50_000, 100_000).map(lambda n: n / 1000)
CONDITIONS = st.one_of(
    st.just(Condition("clean")),
    st.builds(lambda noise, snr: Condition("noise", snr, noise), st.sampled_from(NOISES), SNRS),
    st.builds(lambda n: Condition("reverb", n / 1000), st.integers(50, 10_000)),
    st.builds(lambda n: Condition("speed", n / 1000), st.integers(500, 2000)),
)


@given(CONDITIONS)
def test_a_condition_is_read_as_it_is_written(condition: Condition) -> None:
    assert parse_condition(condition.name) == condition
    assert parse_condition(condition.name.upper()).name == condition.name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("noise:babble:5.0dB", "noise:babble:5dB"), ("noise:white:-0dB", "noise:white:0dB"),
        ("NOISE:Pink:2.50db", "noise:pink:2.5dB"), ("reverb:0.60s", "reverb:0.6s"), ("speed:1.10", "speed:1.1"),
    ],
)  # fmt: skip
def test_a_condition_has_one_name(text: str, name: str) -> None:
    assert parse_condition(text).name == name


@pytest.mark.parametrize(
    "text",
    ["", "loud", "noise", "noise:brown:5dB", "noise:white:5", "noise:white:dB", "reverb:0.6", "speed:", "clean:1",
     "noise:white:1e3dB", "noise:white:5dB ", "speed:1.1\n", "noise:white:٥dB", "clean\x1b[31m", "speed:nan"],
)  # fmt: skip
def test_an_unknown_condition_lists_the_known(text: str) -> None:
    with pytest.raises(InputError) as error:
        parse_condition(text)
    assert error.value.expected == "clean, noise:{white,pink,babble}:SNRdB, reverb:RT60s, speed:FACTOR"
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("noise:white:101dB", "an SNR in dB from -50 to 100"), ("noise:pink:-50.1dB", "an SNR in dB from -50 to 100"),
        ("reverb:0s", "an RT60 in seconds from 0.05 to 10"), ("speed:0", "a factor from 0.5 to 2"),
        ("speed:-1", "a factor from 0.5 to 2"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused(text: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        parse_condition(text)
    assert error.value.expected == says
