"""Files side by side over clips: values against numpy, intervals against draws by hand."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from mimo_convert.plan.mix import ChosenTypes
from runtime_check.report.finite import finite
from runtime_check.run.compare.fidelity import DRAWS, Fidelity, HeldOut, draws, fidelity_of, quantiles
from runtime_check.run.records import Check, StepResult, Steps
from runtime_check.text.loops import Loop
from tests import reports


def steps(kls: Sequence[float], wrong: int = 0) -> Steps:
    """Steps with these divergences, the first `wrong` of which have another top-1 token."""
    every = tuple(StepResult(i, "", -1 if i < wrong else i, i, kl, 1, 0.9, 0.9, 0.0) for i, kl in enumerate(kls))
    return Steps(len(kls), 1 - wrong / len(kls), float(np.mean(kls)), max(kls), 0.0, 0.0, every)


def check(file: str, clip: int, kls: Sequence[float], wrong: int = 0, source: str = "") -> Check:
    whole = reports.check(n_layers=1)
    facts = replace(whole.main, file=f"/models/{file}.gguf", sha256=file)
    clip_facts = replace(whole.clip, file=f"/clips/{clip}.wav", sha256=f"clip {clip}", source=source)
    return replace(whole, files=(facts, *whole.files[1:]), clip=clip_facts, steps=steps(kls, wrong))


def several(n: int = 6) -> list[Check]:
    """Two files on n clips; the second is at 2/5 of the first's divergence, in every clip."""
    rng = np.random.default_rng(0)
    kls = [rng.gamma(0.5, size=4 + i) for i in range(n)]
    return [check(name, i, kl * factor, i % 2) for name, factor in (("a", 1), ("b", 0.4)) for i, kl in enumerate(kls)]


def measured(checks: Sequence[Check]) -> Fidelity:
    found = fidelity_of(checks)
    assert found is not None
    return found


def test_values_are_those_of_all_steps_together() -> None:
    checks = several()
    found = measured(checks)
    assert (found.clips, found.sources, found.tokens) == (6, 6, sum(range(4, 10)))
    for file, own in zip(found.files, (checks[:6], checks[6:]), strict=True):
        kls = np.array([step.kl for one in own if one.steps for step in one.steps.steps])
        assert file.kl_mean.value == pytest.approx(kls.mean())
        assert file.kl_median.value == np.quantile(kls, 0.5, method="inverted_cdf")
        assert file.kl_p99.value == np.quantile(kls, 0.99, method="inverted_cdf")
        assert file.top1.value == pytest.approx(1 - 3 / len(kls))
        assert [clip.kl_mean for clip in file.clips] == [one.steps.kl_mean for one in own if one.steps]


def test_files_are_judged_on_the_same_draws() -> None:
    a, b = measured(several()).files
    assert (a.of_first.value, a.of_first.low, a.of_first.high) == (1, 1, 1)
    assert (b.of_first.value, b.of_first.low, b.of_first.high) == pytest.approx((0.4, 0.4, 0.4))
    assert b.kl_mean.low is not None
    assert b.kl_mean.high is not None
    assert a.kl_mean.value is not None
    assert b.kl_mean.low < a.kl_mean.value * 0.4 < b.kl_mean.high


def test_an_interval_is_that_of_the_standard_error_where_clips_are_many() -> None:
    rng = np.random.default_rng(1)
    found = measured([check("a", i, [value]) for i, value in enumerate(rng.normal(5, 1, 400))])
    kl = found.files[0].kl_mean
    assert kl.value is not None
    assert kl.low is not None
    assert kl.high is not None
    assert (kl.high - kl.low) / 2 == pytest.approx(1.96 * 1 / np.sqrt(400), rel=0.1)
    assert measured(several()) == measured(several())  # seeded


def test_versions_of_one_recording_are_drawn_together() -> None:
    drawn = draws(["x", "y", "x", "z"])
    assert drawn.shape == (DRAWS + 1, 4)
    assert (drawn[0] == 1).all()
    assert (drawn[:, 0] == drawn[:, 2]).all()
    assert (drawn[:, 0] != drawn[:, 1]).any()
    one = measured([check("a", i, [i + 1.0], source="JFK") for i in range(8)])
    assert one.sources == 1
    assert one.about == "8 versions of one recording or speaker, over which intervals are, 8 tokens"
    two = measured([check("a", i, [i + 1.0], source="JFK" if i else "") for i in range(8)])
    assert two.about == "8 clips of 2 recordings or speakers, 8 tokens"
    assert (two.files[0].kl_mean.low, two.files[0].kl_mean.high) == (1, 5)  # either source alone


def test_quantiles_of_draws_are_those_of_the_repeated_steps() -> None:
    rng = np.random.default_rng(2)
    values = [rng.standard_normal(n) for n in (3, 1, 5)]
    drawn = draws(["a", "b", "c"])[:50]
    for share in (0.5, 0.99):
        for counts, found in zip(drawn, quantiles(values, drawn, share), strict=True):
            steps = np.concatenate([np.tile(one, int(n)) for one, n in zip(values, counts, strict=True)])
            assert found == np.quantile(steps, share, method="inverted_cdf")


def test_what_is_no_number_makes_no_interval() -> None:
    checks = [check("a", 0, [1.0]), check("a", 1, [float("nan"), 1.0])]
    a = finite(measured(checks)).files[0]
    assert (a.kl_mean.value, a.kl_mean.high, a.kl_p99.value, a.of_first.low) == (None,) * 4
    assert a.top1.value == 1


def test_one_clip_and_different_clips_are_not_compared() -> None:
    assert fidelity_of([check("a", 0, [1.0]), check("b", 0, [1.0])]) is None
    checks = several()
    assert fidelity_of(checks[:-1]) is None
    assert fidelity_of([reports.without_reference(one) for one in checks]) is None


def test_loops_predictions_and_what_is_held_out_are_told() -> None:
    checks = several()
    looping = replace(checks[7], loop=Loop("and", 40, 40))
    predicted = [replace(one, files=(replace(one.main, chosen=ChosenTypes("4.5bpw", 0.012)),)) for one in checks[:6]]
    held_out = HeldOut("calibration.gguf", "ab" * 32, True, True)
    found = fidelity_of([*predicted, checks[6], looping, *checks[8:]], held_out)
    assert found is not None
    assert [file.loops for file in found.files] == [0, 1]
    assert [file.predicted_kl for file in found.files] == [0.012, None]
    assert found.about.endswith(", held out by calibration.gguf, which was made with synthetic speech")
    others = replace(found, held_out=replace(held_out, is_held_out=False, is_synthetic=False))
    assert others.about.endswith(", other ones than are held out by calibration.gguf")
