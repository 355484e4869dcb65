"""The numbers of a strategy: told by its slots, changed by their names, and nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas.hypergradient import conjugate_gradient, neumann, unrolled
from jaxnas.names import STRATEGIES
from jaxnas.spec import made, spec_of
from jaxnas.strategies import optimizers
from jaxnas.strategies.algorithms import darts, dr_nas, gdas, i_darts, pc_darts, pc_darts_imagenet, smooth_darts, snas
from jaxnas.strategies.decoding import argmax_edges
from jaxnas.strategies.draws import gumbel_hard
from jaxnas.strategies.mixing import dropped_path, partial_channels, random_part
from jaxnas.strategies.optimizers import cosine, heavy_ball, linear
from jaxnas.strategies.relaxation import edge_normalized, softmax
from jaxnas.strategies.settings import numbers, with_numbers


def told(strategy):
    return {name: number.value for name, number in numbers(strategy).items()}


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_row_tells_every_number_and_takes_each_of_them_back(name):
    """Each is within its own bounds; a change reaches the number that it names, and no other."""
    row = STRATEGIES[name](120, every=12)
    found = numbers(row)
    assert {"weights.rate", "weights.rate_end", "weights.rate_steps", "weights.momentum", "weights.clip"} <= set(found)
    for key, number in found.items():
        assert number.read(key, number.value) == number.value
        other = not number.value if isinstance(number.value, bool) else (number.value or 1) * 0.5
        other = number.read(key, max(1, int(other)) if number.bounds.whole and int in number.kinds else other)
        changed = told(with_numbers(row, {key: other}))
        assert changed == {**told(row), key: other}
    assert with_numbers(row, {}).solver is row.solver


def test_a_change_computes_what_the_constructor_computes():
    """Momentum, rate and look-ahead: the same numbers as those of a solver written by hand."""
    row = with_numbers(
        darts(10, hypergradient=unrolled), {"weights.rate": 0.1, "weights.momentum": 0.5, "weights.clip": 1e6}
    )
    ball = heavy_ball(cosine(0.1, 0.001, 10), momentum=0.5, decay=3e-4)
    weights, gradient = jnp.arange(3.0), jnp.array([1.0, -2.0, 0.5])
    ahead = spec_of(spec_of(row.solver).arguments["hypergradient"]).arguments["lookahead"]
    with jax.numpy_dtype_promotion("standard"):
        state = row.solver.init(weights, jnp.zeros(2)).weights_opt
        expected = weights + ball.update(gradient, ball.init(weights), weights)[0]
        updates, _ = spec_of(row.solver).arguments["weights_tx"].update(gradient, state, weights)
    np.testing.assert_allclose(ahead(weights, gradient, state), expected, rtol=1e-6)
    np.testing.assert_allclose(weights + updates, expected, rtol=1e-5)


def test_what_serves_twice_is_changed_twice():
    """The rate of iDARTS is that of its weights and that of its Neumann series."""
    row = with_numbers(i_darts(10), {"weights.rate": 0.5})
    rate = spec_of(spec_of(row.solver).arguments["hypergradient"]).arguments["learning_rate"]
    parts = spec_of(spec_of(row.solver).arguments["weights_tx"]).arguments["parts"]
    assert rate is spec_of(parts[1]).arguments["rate"] and spec_of(rate).arguments["start"] == 0.5


@pytest.mark.parametrize(
    ("make", "key", "value"),
    [
        (lambda: pc_darts(50), "when.steps", 15),
        (lambda: pc_darts_imagenet(50), "weights.rate_warmup", 5),
        (lambda: gdas(50), "relaxation.temperature", 10.0),
        (lambda: snas(50), "penalty.weight", 1e-2),
        (lambda: smooth_darts(50), "perturb.radius", 0.3),
        (lambda: dr_nas(50), "alpha.weight_decay", 1e-3),
        (lambda: i_darts(50, terms=7), "hypergradient.terms", 7),
        (lambda: darts(9, hypergradient=conjugate_gradient(3)), "hypergradient.iterations", 3),
        (lambda: darts(9, hypergradient=neumann(3, 0.2)), "hypergradient.learning_rate", 0.2),
        (lambda: darts(9).replace(mixing=dropped_path(linear(0.0, 0.5, 9), partial_channels(2))), "mixing.divisor", 2),
        (lambda: darts(9).replace(mixing=partial_channels(2, part=random_part)), "mixing.divisor", 2),
        (lambda: darts(9).replace(relaxation=edge_normalized(softmax(0.2), 0.1)), "relaxation.inner_deviation", 0.2),
        (lambda: darts(9).replace(relaxation=gumbel_hard(lambda step: 1.0)), "relaxation.deviation", 1e-3),
        (lambda: darts(9).replace(mixing=dropped_path(made(optax.constant_schedule, 0.2))), "mixing.rate", 0.2),
    ],
)
def test_names(make, key, value):
    assert told(make())[key] == value


def test_slots_of_a_user_that_do_not_tell_have_no_settings():
    row = darts(9).replace(relaxation=softmax()._replace(sample=lambda *args: None), decode=argmax_edges())
    assert not [key for key in told(row) if key.startswith(("relaxation.", "decode."))]


@pytest.mark.parametrize(
    ("key", "given", "why"),
    [
        ("weights.rate", float("nan"), "--set weights.rate=nan: give a number from 0 to"),
        ("weights.rate", -1, "--set weights.rate=-1: give a number from 0"),
        ("weights.rate", float("inf"), "weights.rate=inf: give a number"),
        ("weights.rate", 10**400, "give a number from 0"),
        ("weights.rate", "fast", "weights.rate='fast': give a number"),
        ("weights.rate", True, "weights.rate=True: give a number"),
        ("weights.momentum", 1, "give a number from 0 and below 1"),
        ("weights.clip", 0, "give a number above 0"),
        ("when.steps", 1.5, "when.steps=1.5: give a whole number from 0"),
        ("mixing.divisor", 0, "give a whole number from 1"),
        ("mixing.divisor", [4], r"mixing.divisor=\[4\]: give a whole number"),
        ("solver.weights_first", 1, "give true or false"),
    ],
)
def test_a_value_that_cannot_be_meant(key, given, why):
    with pytest.raises(ValueError, match=why):
        numbers(pc_darts(9))[key].read(key, given)


def test_none_where_a_number_may_be_missing():
    row = STRATEGIES["nasp"](9)
    kept = numbers(row)["relaxation.kept"]
    assert kept.read("relaxation.kept", "none") is None and kept.read("relaxation.kept", 3) == 3
    assert told(with_numbers(row, {"relaxation.kept": None}))["relaxation.kept"] is None
    with pytest.raises(ValueError, match='or "none"'):
        kept.read("relaxation.kept", "all")


def test_ramps_by_where_they_arrive():
    """`rising` is `linear`; `ramp` is one stair behind: 0.03 + 0.27 e / E."""
    at = lambda schedule: [float(schedule(jnp.int32(step))) for step in (0, 5, 11)]
    assert at(optimizers.rising(0.2, 0.0, 12, 4)) == at(linear(0.0, 0.2, 12, 4))
    with jax.numpy_dtype_promotion("standard"):
        np.testing.assert_allclose(at(optimizers.ramp(0.3, 0.03, 12, 4)), [0.03, 0.12, 0.21], rtol=1e-6)
