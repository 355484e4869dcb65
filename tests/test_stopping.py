"""Rules on series made by hand; the numbering is that of the records, whose first epoch is 1."""

import numpy as np
import pytest

from jaxnas.evaluation.stopping import never, sharp_rise, skips, too_many_skips, warnings


def record(epoch, curvature=None, ops=("sep_conv_3x3",) * 8, entropy=1.0):
    cells = {"normal": [[op, 0, 2] for op in ops], "reduce": [["skip_connect", 0, 2]] * 8}
    measured = {} if curvature is None else {"measured": {"curvature": curvature}}
    return {"epoch": epoch, "alpha_entropy": entropy, "genotype": {"cells": cells}, **measured}


def run_of(values, every=2, first=1, last=50):
    """Records of a stage with a value every second epoch."""
    return [
        record(first + i, values[i // every] if i % every == 0 and i // every < len(values) else None)
        for i in range(last)
    ]


def asked(rule, records):
    """The first verdict of a rule that is asked after every epoch: (epoch after which, verdict)."""
    for i in range(1, len(records) + 1):
        if verdict := rule(records[:i]):
            return records[i - 1]["epoch"], verdict
    return None


def official(values, every=2, window=5, delta=4, factor=1.3, start=10):
    """What the official rule does, from its description, with epochs from 0: (now, answer) or None."""
    for k in range(-(-window // 2) + delta, len(values) + 1):
        now = (k - 1) * every
        centre = now - every * (window // 2)
        mean = lambda n: np.mean(values[max(0, n - window) : n])
        if centre - every * delta >= start and mean(k) / mean(k - delta) > factor:
            return now, centre - every * delta
    return None


@pytest.mark.parametrize("seed", range(12))
def test_sharp_rise_is_the_official_rule(seed):
    """Random walks; the official epochs count from 0, so both of its numbers are one less."""
    values = list(np.exp(0.2 * np.random.default_rng(seed).standard_normal(25).cumsum()))
    found, expected = asked(sharp_rise(), run_of(values)), official(values)
    assert (found and (found[0] - 1, found[1].epoch - 1)) == expected


def test_some_walks_rise_and_some_do_not():
    walks = [np.exp(0.2 * np.random.default_rng(seed).standard_normal(25).cumsum()) for seed in range(12)]
    assert 3 < sum(official(list(walk)) is not None for walk in walks) < 10


def test_sharp_rise_by_hand():
    """1 until epoch 21, then 2: the mean of five is 1.2 at epoch 23 and 1.4 at epoch 25; 12 epochs back."""
    after, verdict = asked(sharp_rise(), run_of([1.0] * 11 + [2.0] * 14))
    assert (after, verdict.epoch) == (25, 13) and "factor of 1.40, from 1 to 1.4" in verdict.why
    assert asked(sharp_rise(factor=1.4), run_of([1.0] * 11 + [2.0] * 14))[0] == 27


def test_the_first_epochs_are_never_the_answer():
    """A rise from the start: the first answer is epoch 11, ten epochs in, given after epoch 23; in any stage."""
    rising = [1.5**i for i in range(25)]
    assert asked(sharp_rise(), run_of(rising))[1].epoch == 11
    after, verdict = asked(sharp_rise(), run_of(rising, first=101))
    assert (after, verdict.epoch) == (123, 111)
    after, verdict = asked(sharp_rise(start=0), run_of(rising))
    assert (after, verdict.epoch) == (13, 1)  # the seventh value: means of three and of five


def test_a_curvature_that_is_not_positive_does_not_stop():
    assert asked(sharp_rise(), run_of([-1.0] * 10 + [-5.0] * 15)) is None  # it fell, though the ratio is 5
    assert asked(sharp_rise(), run_of([0.0] * 25)) is None
    assert asked(sharp_rise(), run_of([1.0] * 12 + [float("nan")] * 13)) is None


def test_a_rule_without_its_measure_says_so():
    with pytest.raises(ValueError, match="no record has the measure 'curvature'"):
        sharp_rise()([record(1)])
    with pytest.raises(ValueError, match="at least 1"):
        sharp_rise(window=0)


def test_too_many_skips_counts_the_first_cell():
    records = [record(1), record(2, ops=("skip_connect", "a")), record(3, ops=("skip_connect",) * 2)]
    after, verdict = asked(too_many_skips(), records)
    assert (after, verdict.epoch) == (3, 3) and verdict.why == "2 skip connections in the normal cell"
    assert asked(too_many_skips(3), records) is None
    assert asked(too_many_skips(cell="reduce"), records)[0] == 1
    assert skips(records[2]) == 2
    with pytest.raises(ValueError, match="no cell is called 'cell'; this genotype has normal, reduce"):
        asked(too_many_skips(cell="cell"), records)
    with pytest.raises(ValueError, match="at least 1"):
        too_many_skips(0)


def test_never():
    assert asked(never, [record(1)]) is None


def test_warnings_say_what_is_wrong():
    assert warnings([record(1)]) == {}
    collapsed = record(2, ops=("skip_connect",) * 5 + ("a",) * 3, entropy=0.89)
    assert warnings([record(1), collapsed]) == {}  # once may be chance
    found = warnings([record(1), collapsed, {**collapsed, "epoch": 3}])
    assert list(found) == ["skips"] and "5 of 8 edges" in found["skips"]
    half = [record(i, ops=("skip_connect",) * 4 + ("a",) * 4, entropy=1 / i) for i in (1, 2, 3)]
    assert warnings(half) == {}
    undecided = [record(i, ops=("skip_connect",) * 8) for i in (1, 2, 3)]  # alpha has hardly moved
    assert warnings(undecided) == {}
    assert list(warnings([record(1), record(2, entropy=0.099)])) == ["entropy"]
    assert warnings([record(1, entropy=0.0), record(2, entropy=0.0)]) == {}  # an entropy that was never there
    rising = run_of([1.5**i for i in range(12)], last=23)
    assert "since epoch 11" in warnings(rising)["curvature"] and warnings(rising[:22]) == {}
