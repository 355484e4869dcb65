"""P-DARTS: dropout behind skips, cuts, few skips, the row, and stages that run on and resume."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console
from typer.testing import CliRunner

from jaxnas import cli, folder, runner
from jaxnas.data import Batch, Split
from jaxnas.hypergradient import Batches, two_losses
from jaxnas.interop import from_torch, living_ops, to_torch
from jaxnas.runner import run
from jaxnas.spaces.darts import darts
from jaxnas.spaces.nas_bench_201 import nas_bench_201
from jaxnas.spaces.networks import supernet
from jaxnas.spaces.space import Gates
from jaxnas.stages import Stage, dr_nas_stages, keep_best, p_darts_stages, progressive
from jaxnas.strategies.algorithms import p_darts, pc_darts
from jaxnas.strategies.decoding import argmax_edges, in_edge_order, limit_skips, top_edges
from jaxnas.strategies.mixing import dropped_skip, partial_channels, sampled, weighted_sum
from jaxnas.strategies.optimizers import two_phase
from jaxnas.strategies.relaxation import masked_softmax

STEP = jnp.int32(0)
OPS = {
    "skip_connect": lambda x, gate: gate.astype(x.dtype) * x,
    "other": lambda x, gate: 0 * x + 10 * gate.astype(x.dtype),
}
SPACE = darts(channels=4, layers=3)
TINY = darts(4, 3, 4, image=(8, 8, 3))

# ------------------------------------------------------------------------------------- dropout behind skips


def mix(mixing, gates, x, ops=OPS, key=0):
    return mixing.mix(ops, jnp.asarray(gates), x, jax.random.key(key), STEP)


def test_numbers_behind_a_skip_are_dropped_and_the_rest_made_larger():
    x = jnp.ones((8, 16, 16, 4))
    dropped = lambda x: mix(dropped_skip(lambda step: 0.75), [0.5, 1.0], x) - 10  # the other operation stays whole
    y = dropped(x)
    assert set(np.unique(y)) == {0.0, 2.0}  # 0.5 / (1 - 0.75)
    assert abs(float((y > 0).mean()) - 0.25) < 5 * np.sqrt(0.25 * 0.75 / x.size)
    np.testing.assert_array_equal(jax.grad(lambda x: dropped(x).sum())(x), y)  # through the numbers that are kept
    assert (mix(dropped_skip(lambda step: 0.75), [0.5, 1.0], x, key=1) - 10 != y).any()


def test_the_rate_follows_the_step_and_0_drops_nothing(key):
    x, rate = jax.random.normal(key, (2, 8, 8, 4)), lambda step: jnp.where(step > 3, 0.5, 0.0)
    at = lambda step: dropped_skip(rate).mix(OPS, jnp.array([1.0, 0.0]), x, key, jnp.int32(step))
    np.testing.assert_array_equal(at(3), x)
    assert 0.3 < float((at(4) == 0).mean()) < 0.7


def test_strided_skips_pass_whole(key):
    x = jax.random.normal(key, (2, 8, 8, 4))
    halved = {"skip_connect": lambda x, gate: gate * x[:, ::2, ::2]}
    np.testing.assert_array_equal(mix(dropped_skip(lambda step: 0.9), [1.0], x, halved), x[:, ::2, ::2])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda rate: dropped_skip(rate, partial_channels(2, sampled())),
        lambda rate: partial_channels(2, dropped_skip(rate, sampled())),
    ],
)
def test_wrappers_compose(key, wrap):
    """One sampled operation on half of the channels; the other half is never dropped."""
    mixing, x = wrap(lambda step: 0.5), jnp.ones((2, 8, 8, 4), jnp.bfloat16)
    y = mix(mixing, [1.0, 0.0], x)
    assert mixing.width(8) == 4 and y.dtype == x.dtype
    assert set(np.unique(y[..., ::2])) == {0.0, 2.0} and (y[..., 1::2] == 1).all()


def test_the_rate_falls_twice(x64):
    rate = two_phase(0.4, steps=100, rest=40, every=4)
    found = [float(rate(jnp.int32(step))) for step in range(100)]
    expected = [0.4 * (24 - e) / 25 for e in range(10)] + [0.4 * np.exp(-0.2 * e) for e in range(15)]
    np.testing.assert_allclose(found, np.repeat(expected, 4), rtol=1e-12)


@pytest.mark.parametrize("wrong", [{"rate": 1.0}, {"rate": -0.1}, {"steps": 0}, {"every": 0}])
def test_rates_that_are_none(wrong):
    with pytest.raises(ValueError, match=r"give a rate in \[0, 1\)"):
        two_phase(**{"rate": 0.1, "steps": 10, "rest": 4, **wrong})


# --------------------------------------------------------------------------------------- cuts and decoding


def scores_of(space, draw):
    tables = {cell: masked_softmax(jnp.asarray(draw((14, 8))), space.mask(cell)) for cell in space.cells}
    return {cell: Gates(table, jnp.ones(14, table.dtype)) for cell, table in tables.items()}


def test_the_best_operations_stay_alive(draw):
    space = keep_best(5)(SPACE, scores_of(SPACE, draw))
    scores = scores_of(space, draw)
    cut = keep_best(3)(space, scores)
    for cell in space.cells:
        before, after, gates = space.mask(cell), cut.mask(cell), np.asarray(scores[cell].ops)
        assert (before.sum(-1) == 5).all() and (after.sum(-1) == 3).all() and not (after & ~before).any()
        assert (np.where(after, gates, 1).min(-1) > np.where(before & ~after, gates, 0).max(-1)).all()
        assert after[:, 0].any()  # `none` may stay
    assert keep_best(3)(cut, None) is cut


def test_of_equal_operations_the_last_stay():
    even = {cell: Gates(np.full((14, 8), 0.125), np.ones(14)) for cell in SPACE.cells}
    assert (np.flatnonzero(keep_best(2)(SPACE, even).mask("reduce")[3]) == [6, 7]).all()


def test_a_first_stage_cannot_choose():
    with pytest.raises(ValueError, match="no scores to choose by: keep all 8 operations, not 5"):
        keep_best(5)(SPACE, None)
    with pytest.raises(ValueError, match="keep at least one"):
        keep_best(0)


def skips_first(cell_scores=((0.6, 0.4), (0.9, 0.1), (0.7, 0.3), (0.8, 0.2))):
    """S2-like scores: the normal cell has a skip on each of its first four edges, the reduction cell everywhere."""
    space = SPACE.replace(ops=SPACE.ops[3:5])
    normal = np.full((14, 2), 0.5) * [0.9, 1.1]
    normal[:4] = cell_scores
    return space, {"normal": Gates(normal, np.ones(14)), "reduce": Gates(np.full((14, 2), [0.9, 0.1]), np.ones(14))}


@pytest.mark.parametrize("most, skips", [(8, [0, 1, 2, 3]), (3, [1, 2, 3]), (2, [1, 3]), (1, [1]), (0, [])])
def test_the_weakest_skips_go(most, skips):
    """Edges 2, 3, 4 end in one node: where the skip of edge 2 or 3 goes, edge 4 with 0.55 may take its place."""
    space, scores = skips_first()
    found = limit_skips(most)(scores, space)
    kept = [space.edges.index(choice[1:]) for choice in found.edges("normal") if choice.op == "skip_connect"]
    assert kept == skips and found.count("skip_connect", "reduce") == 8
    into_3 = [choice.source for choice in found.edges("normal") if choice.target == 3]
    assert into_3 == {0: [0, 2], 1: [0, 2], 2: [1, 2]}.get(most, [0, 1])
    assert scores["normal"].ops[1, 0] == 0.9  # what was given is as it was


def test_weights_of_edges_take_part():
    space, scores = skips_first()
    weighed = {**scores, "normal": scores["normal"]._replace(edges=np.where(np.arange(14) == 1, 0.1, 1.0))}
    kept = [choice[1:] for choice in limit_skips(3)(weighed, space).edges("normal") if choice.op == "skip_connect"]
    assert space.edges[1] not in kept and space.edges[0] in kept


def test_limits_that_cannot_be(draw):
    space, scores = skips_first()
    only = space.with_alive({"normal": [[True, e > 1] for e in range(14)], "reduce": np.ones((14, 2))})
    assert limit_skips(2)(scores, only).count("skip_connect", "normal") == 2
    with pytest.raises(ValueError, match=r"limit_skips\(1\): 2 skips have no other operation"):
        limit_skips(1)(scores, only)
    with pytest.raises(ValueError, match=r"'dense'.*has normal, reduce"):
        limit_skips(1, cell="dense")(scores, space)
    with pytest.raises(ValueError, match="0 skips or more"):
        limit_skips(-1)


def test_choices_in_order_of_the_edges(draw):
    scores = scores_of(SPACE, draw)
    by_strength, by_edge = top_edges()(scores, SPACE), in_edge_order(top_edges())(scores, SPACE)
    for cell in SPACE.cells:
        assert by_edge.edges(cell) == tuple(sorted(by_strength.edges(cell), key=lambda choice: choice[:0:-1]))
    assert by_edge != by_strength


def test_names_count_what_is_alive(draw):
    space = keep_best(3)(SPACE, scores_of(SPACE, draw))
    shapes, rng = jax.eval_shape(supernet(space).init, jax.random.key(0)), np.random.default_rng(0)
    weights = jax.tree.map(lambda s: rng.normal(size=s.shape), shapes)
    official = to_torch(space, weights, names=living_ops)
    seps = np.argwhere(space.mask("normal")[:, 4:6]) + [0, 4]
    for edge, op in seps:
        place = space.mask("normal")[edge][:op].sum()
        assert f"cells.0.cell_ops.{edge}.m_ops.{place}.op.5.weight" in official
    assert len(seps) and {name.split(".m_ops.")[1][0] for name in official if ".m_ops." in name} == {"0", "1", "2"}
    back = from_torch(space, official, names=living_ops)
    jax.tree.map(np.testing.assert_array_equal, to_torch(space, back, names=living_ops), official)
    with pytest.raises(ValueError, match="missing"):
        from_torch(space, official)


# ------------------------------------------------------------------------------------------ row and stages


def test_alpha_rests_and_then_both_gradients_are_clipped(draw, x64):
    """10 of 25 steps of rest; then alpha's first moment is half of clipped gradient + decay."""
    slope_w, slope_a = 40 * draw(3), 40 * draw(4)
    loss = lambda weights, alpha, batch: (weights @ slope_w + alpha @ slope_a, {})
    clipped = lambda g: 5 * g / (np.linalg.norm(g) + 1e-6)
    solver = p_darts(25, skip_dropout=0.1).solver
    step = jax.jit(lambda state: solver.step(two_losses(loss, loss), state, Batches(0.0, 0.0))[0])
    first = state = solver.init(jnp.asarray(draw(3)), jnp.asarray(draw(4)))
    moved = 0.025 * (clipped(slope_w) + 3e-4 * first.weights)
    np.testing.assert_allclose(step(first).weights, first.weights - moved, rtol=1e-6)
    for _ in range(10):
        state = step(state)
        np.testing.assert_array_equal(state.alpha, first.alpha)
    state, moment = step(state), (clipped(slope_a) + 1e-3 * first.alpha) / 2
    np.testing.assert_allclose(optax.tree.get(state.alpha_opt, "mu"), moment, rtol=1e-10)
    np.testing.assert_allclose(state.alpha, first.alpha - 6e-4 * np.sign(moment), rtol=1e-6)


def test_one_stage_without_cuts_is_the_plain_search():
    row = pc_darts(10)
    (stage,) = progressive([row], [SPACE], 3, keep=[8])
    assert stage.strategy is row and stage.epochs == 3 and stage.reshape(SPACE, None) == SPACE
    masked = SPACE.with_alive({cell: np.eye(14, 8, dtype=bool) | (np.arange(8) == 4)[None] for cell in SPACE.cells})
    assert stage.reshape(masked, None) == masked


def test_without_dropout_nothing_is_built_for_it():
    assert p_darts(10).mixing.mix.__code__ is weighted_sum().mix.__code__
    assert p_darts(10, skip_dropout=0.1).mixing.mix.__code__ is not weighted_sum().mix.__code__


@pytest.mark.parametrize(
    "change, text",
    [
        ({"spaces": [SPACE]}, "2 strategies, 1 spaces, 2 numbers"),
        ({"keep": (8,)}, "2 strategies, 2 spaces, 1 numbers"),
        ({"keep": (8, 0)}, "keep at least one"),
        ({"spaces": [SPACE, darts(4, 3, 5)]}, "classes 10 and 5 differ"),
        ({"spaces": [SPACE, SPACE.replace(ops=SPACE.ops[1:])]}, "ops .* differ"),
    ],
)
def test_stages_that_do_not_fit(change, text):
    given = {"spaces": [SPACE, SPACE], "keep": (8, 5), **change}
    with pytest.raises(ValueError, match=text):
        progressive([p_darts(10)] * 2, given["spaces"], 1, keep=given["keep"])
    with pytest.raises(ValueError, match="give one rate for each of the 2 stages"):
        p_darts_stages([SPACE, SPACE], 10)


def images(seed, count):
    draw = np.random.default_rng(seed)
    return Batch(draw.integers(0, 255, (count, 8, 8, 3)).astype(np.uint8), draw.integers(0, 4, count).astype(np.int32))


DATA = Split(images(0, 8), images(1, 8), images(2, 4), "digest")


def search_in(out, *, deeper=2, keep=(3, 2), skip_dropout=(0.0, 0.5), **options):
    """Two stages in the cheapest space there is: one type of cell, six edges, three operations."""
    cells = [nas_bench_201(2, depth, 4, image=(8, 8, 3)) for depth in (1, deeper)]
    spaces = [space.replace(ops=space.ops[:3]) for space in cells]
    stages = p_darts_stages(spaces, steps=2, epochs=3, keep=keep, skip_dropout=skip_dropout, alpha_rate=0.1)
    stages = [stage._replace(strategy=stage.strategy.replace(decode=argmax_edges())) for stage in stages]
    options = {"augment": lambda key, pixels: pixels.astype(jnp.float32) / 100.0, "batch": 4, **options}
    return run(stages, spaces[0], DATA, jax.random.key(0), out=out, console=Console(quiet=True), **options)


def interrupt_at(call):
    """A `stop` that is a Ctrl-C when it is asked for that time, before the epoch is recorded."""
    calls = iter(range(1, call + 1))

    def stop(records):
        if next(calls) == call:
            raise KeyboardInterrupt

    return stop


def numbers(records):
    return [{k: v for k, v in r.items() if k not in ("seconds", "images_per_second")} for r in records]


def test_stages_run_on_and_resume(tmp_path, monkeypatch):
    """Cut where the second stage begins, and in its middle: goes on to the same end; refuses other stages."""
    monkeypatch.setattr(folder, "draw", lambda *_: [])
    whole = search_in(tmp_path / "a")
    assert [(r["stage"], r["step"]) for r in whole.records] == [(s, step) for s in (0, 1) for step in (2, 4, 6)]
    table = folder.read_scores(tmp_path / "a")["cell"]
    assert ((table > 0).sum(-1) == np.array([3, 3, 3, 2, 2, 2])[:, None]).all()
    best = np.sort(table[2].argsort(-1)[:, 1:])
    np.testing.assert_array_equal(best, np.argwhere(table[3] > 0)[:, 1].reshape(6, 2))
    with pytest.raises(KeyboardInterrupt):  # asked twice in the first stage, where the last epoch ends it anyway
        search_in(tmp_path / "b", stop=interrupt_at(3))
    assert len(folder.read_records(tmp_path / "b")) == 3
    with pytest.raises(KeyboardInterrupt):
        search_in(tmp_path / "b", stop=interrupt_at(2), resume=True)
    assert len(folder.read_records(tmp_path / "b")) == 4
    for other in ({"skip_dropout": (0.0, 0.4)}, {"keep": (3, 3)}, {"deeper": 3}):
        with pytest.raises(ValueError, match="was started otherwise: stages was"):
            search_in(tmp_path / "b", resume=True, **other)
    resumed = search_in(tmp_path / "b", resume=True)
    assert numbers(resumed.records) == numbers(whole.records)
    jax.tree.map(np.testing.assert_array_equal, resumed.state.bilevel, whole.state.bilevel)


def test_a_space_of_another_cell_is_refused_before_anything_is_written(tiny_space, tmp_path):
    stages = p_darts_stages([tiny_space.replace(name="other")], 2, 2, keep=[3], skip_dropout=[0.1])
    with pytest.raises(ValueError, match=r"name .* and other differ"):
        run(stages, tiny_space, DATA, jax.random.key(0), out=tmp_path / "b", console=Console(quiet=True))
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    "stages, text",
    [
        (dr_nas_stages([TINY] * 2, 2), r"partial_channels\(6\) on an edge with 4 channels"),
        (dr_nas_stages([TINY] * 2, 2, divisors=(4, 6)), r"partial_channels\(6\)"),  # of the second stage, at once
        ([Stage(p_darts(10).replace(decode=limit_skips(2, cell="dense")), 1)], "'dense'.*has normal, reduce"),
    ],
)
def test_rows_that_do_not_fit_are_refused_before_anything_is_written(stages, text, tmp_path):
    with pytest.raises(ValueError, match=text):
        run(stages, TINY, DATA, jax.random.key(0), out=tmp_path / "b", console=Console(quiet=True))
    assert not (tmp_path / "b").exists()


def test_the_command_line_makes_the_stages(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(runner, "run", lambda stages, space, *args, **options: seen.append((stages, space)))
    for strategy, space in (
        ("p-darts", "darts"),
        ("p-darts", "nas_bench_201"),
        ("pc-darts", "darts"),
        ("dr-nas", "nas_bench_201"),
    ):
        options = ["search", "--strategy", strategy, "--space", space, "--smoke", "--out", str(tmp_path)]
        done = CliRunner().invoke(cli.app, options, env={"COLUMNS": "300"})
        assert done.exit_code == 0, done.output
        count = {"p-darts": 3, "dr-nas": 2}.get(strategy)
        assert (f"in each of {count} stages" in done.output) == bool(count)
    depths = [[len(stage.settings.get("skeleton", ())) for stage in stages] for stages, _ in seen]
    assert depths == [[5, 11, 17], [5, 8, 11], [0], [5, 5]]
    assert [stage.settings["skip_dropout"] for stage in seen[0][0]] == [0.1, 0.4, 0.7]
    assert [stage.settings["keep"] for stage in seen[0][0]] == [8, 5, 3] and json.dumps(seen[0][0][0].settings)
    assert [(s.settings["keep"], s.settings["divisor"]) for s in seen[3][0]] == [(5, 4), (3, 2)]
    assert seen[2][0] == [Stage(seen[2][0][0].strategy, 1)]
