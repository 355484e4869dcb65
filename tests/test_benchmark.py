"""A table made here, looked up and searched; the official table where the machine has it; a stand-in for its API."""

import json
import os
from itertools import product
from pathlib import Path

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

from jaxnas.cli import app
from jaxnas.evaluation import benchmark
from jaxnas.evaluation.methods import evolution, local_search, random_search, reinforce
from jaxnas.evaluation.official_table import OP_NAMES, convert
from jaxnas.evaluation.tabular import Budget, Landscape, landscape, over_time, search, weighed
from jaxnas.spaces.genotype import from_nas_bench_201, genotype, to_json

NEARBY = Path(__file__).resolve().parents[1] / "../shared/data/nasbench201_table.npz"
REAL = Path(os.environ.get("JAXNAS_NAS_BENCH_201", NEARBY))
real = pytest.mark.skipif(not REAL.is_file(), reason=f"no NAS-Bench-201 table in $JAXNAS_NAS_BENCH_201 or {NEARBY}")
WORTH = np.array([0.0, 4.0, 7.0, 10.0, 2.0])  # percent that an operation adds on every edge: the best cell is unique
CONVOLUTIONS = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
METHODS = {"random": random_search, "evolution": evolution, "local": local_search, "reinforce": reinforce}


def arrays():
    """All 15,625 cells in a shuffled order; accuracy, seconds and sizes are sums over edges."""
    ops = np.random.default_rng(0).permutation(np.array(list(product(range(5), repeat=6)), np.int8))
    percent, seeds = 10 + WORTH[ops].sum(1), np.full((len(ops), 2), np.nan)
    seeds[:, 0] = percent
    return {
        "ops": ops,
        "op_names": np.array(OP_NAMES),
        "cifar10_valid_12": percent / 2,
        "cifar10_valid_200": percent,
        "cifar10_valid_200_seeds": seeds,
        "cifar10_test_200": percent + 1,
        "cifar10_train_seconds_200": 1000.0 + 10 * (ops == 3).sum(1),
        "cifar10_params_m": 0.1 + 0.05 * (ops == 3).sum(1),
        "flops_m_cifar10": 7.0 + (ops == 3).sum(1),
        "latency_devices": np.array(["phone"]),
        "latency_ms": (1.0 + (ops == 3).sum(1))[:, None],
    }


@pytest.fixture(scope="module")
def table():
    return benchmark.table(arrays(), "made")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "made.npz"
    np.savez_compressed(path, **arrays())
    return path


# ------------------------------------------------------------------------------------------------------- look-up


def test_a_genotype_is_looked_up_whatever_the_order_of_its_edges(table):
    text = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|nor_conv_3x3~2|"
    ordered = from_nas_bench_201(text)
    turned = genotype("nas_bench_201", {"cell": list(reversed(ordered.edges("cell")))}, {"cell": [3]})
    entry = table.look_up(turned)
    assert entry == table.look_up(ordered) == table.look_up(entry.row) and entry.genotype == ordered
    percent = 10 + 10 + 0 + 4 + 2 + 7 + 10
    assert entry.accuracy == {("valid", 12): percent / 200, ("valid", 200): percent / 100, ("test", 200): 0.44}
    assert entry.seeds == {("valid", 200): [0.43]} and entry.train_seconds == {200: 1020.0}
    assert (entry.parameters, entry.multiply_adds) == (200_000, 9_000_000) and entry.latency_ms == {"phone": 3.0}


def test_ranks_and_the_best(table):
    best = table.best("cifar10")
    assert table.genotype(best) == from_nas_bench_201(CONVOLUTIONS)
    assert table.look_up(best).rank["valid", 200] == 1
    one_less = table.ops[best].copy()
    one_less[0] = 2  # six cells of this worth stand behind one better cell
    assert table.look_up(int(table.find(one_less))).rank["test", 200] == 2
    assert (table.find(table.ops) == np.arange(len(table))).all()


@pytest.mark.parametrize(
    "cells, outputs, text",
    [
        ([("none", 0, 1)], [1], "one cell of 3 nodes"),
        ([("none", 0, 1), ("none", 0, 3)], [3], "each of the edges"),
        ([("none", s, t) for t in (1, 2, 3) for s in range(t)] + [("none", 0, 1)], [3], "each of the edges"),
        ([("sep_conv_3x3", s, t) for t in (1, 2, 3) for s in range(t)], [3], "sep_conv_3x3 are not in the table"),
    ],
)
def test_genotypes_of_other_spaces_are_refused(table, cells, outputs, text):
    with pytest.raises(ValueError, match=text):
        table.look_up(genotype("any", {"cell": cells}, {"cell": outputs}))


def test_what_the_table_lacks_is_said(table):
    with pytest.raises(ValueError, match="no valid accuracy on cifar100 after 200 epochs; it has cifar10 valid 12"):
        table.values("cifar100", "valid")
    with pytest.raises(ValueError, match="data set 'mnist'; it has cifar10"):
        table.look_up(0, dataset="mnist")
    with pytest.raises(ValueError, match="operations are 0 to 4"):
        table.find(np.full(6, 5))


@pytest.mark.parametrize(
    "change, text",
    [
        ({"ops": None}, "lacks ops"),
        ({"ops": np.zeros((2, 5), int)}, r"integers \[architectures, 6\]"),
        ({"ops": np.zeros((15625, 6), int)}, "stands in ops twice"),
        ({"op_names": np.array(["none"])}, "there are 1 op_names"),
        ({"arch": np.full(15625, CONVOLUTIONS)}, "in arch but"),
        ({"cifar10_test_200": np.zeros(3)}, r"cifar10_test_200 is float64 \(3,\)"),
        ({"cifar10_test_200": np.full(15625, 100.5)}, "percentages"),
        ({"cifar10_test_200": np.full(15625, np.nan)}, "percentages"),
        ({"latency_devices": np.array(["a", "b"])}, "2 latency_devices"),
        ({"cifar10_test_200": np.full(15625, {}, object)}, "plain arrays"),
    ],
)
def test_bad_files_are_refused(tmp_path, change, text):
    kept = {key: value for key, value in (arrays() | change).items() if value is not None}
    np.savez(tmp_path / "bad.npz", **kept)
    with pytest.raises(ValueError, match=text):
        benchmark.read(tmp_path / "bad.npz")


def test_files_that_are_none(tmp_path, path):
    with pytest.raises(FileNotFoundError, match="no table"):
        benchmark.read(tmp_path / "none.npz")
    (tmp_path / "cut.npz").write_bytes(path.read_bytes()[:5000])
    (tmp_path / "text.npz").write_text("hello")
    for name in ("cut.npz", "text.npz"):
        with pytest.raises(ValueError, match=r"not an \.npz of plain arrays"):
            benchmark.read(tmp_path / name)


# ------------------------------------------------------------------------------------------------------ searches


@pytest.mark.parametrize("name", METHODS)
def test_histories_keep_the_budget_and_the_best(table, name):
    scene, budget = landscape(table), Budget(3000.0)
    history = search(METHODS[name](), scene, jax.random.key(1), runs=20, budget=budget)
    assert history.rows.shape[0] == 20 and (history.evaluations >= 3000 // scene.seconds.max()).all()
    for rows, seconds, best in zip(*history, strict=True):
        done = rows[rows >= 0]
        assert (rows[len(done) :] == -1).all()  # once over, a run stays over
        np.testing.assert_allclose(seconds[: len(done)], np.cumsum(scene.seconds[done]))
        assert seconds[len(done) - 1] <= 3000 < seconds[len(done) - 1] + scene.seconds.max()
        assert scene.reward[best[-1]] == scene.reward[done].max()
        assert (scene.reward[best[: len(done)]] == np.maximum.accumulate(scene.reward[done])).all()
    again = search(METHODS[name](), scene, jax.random.key(1), runs=20, budget=budget)
    assert (again.rows == history.rows).all()
    other = search(METHODS[name](), scene, jax.random.key(2), runs=20, budget=budget)
    assert (other.rows[:, :5] != history.rows[:, :5]).any()


def test_an_evaluation_costs_its_training_and_one_validation(table):
    np.testing.assert_allclose(landscape(table).seconds, table.train_seconds["cifar10", 200] * 12 / 200)
    whole = benchmark.table(
        arrays() | {"cifar10_train_seconds_12": np.full(15625, 70.0), "cifar10_valid_seconds": np.full(15625, 2.0)}
    )
    assert (landscape(whole).seconds == 72).all()


def test_random_search_is_uniform(table):
    """The mean best of n draws with replacement, from the distribution of the table."""
    scene, n = landscape(table), 20
    history = search(random_search(), scene, jax.random.key(0), runs=2000, budget=Budget(1e9, evaluations=n))
    ordered = np.sort(scene.reward)
    share = (np.arange(1, len(ordered) + 1) / len(ordered)) ** n
    expected = (ordered * np.diff(share, prepend=0)).sum()
    found = scene.reward[history.answers]
    assert abs(found.mean() - expected) < 4 * found.std() / np.sqrt(2000)


def test_children_differ_from_a_parent_in_one_operation_of_a_node_drawn_first(table):
    """A population of one: each child has the one before it as its parent. Edges change as 1/3, 1/6, 1/6, 1/9 (3x)."""
    history = search(evolution(1, 1), landscape(table), jax.random.key(0), runs=200, budget=Budget(1e9, evaluations=51))
    ops = table.ops[history.rows]
    changed = ops[:, 1:] != ops[:, :-1]
    assert (changed.sum(-1) == 1).all()
    expected = np.array([1 / 3, 1 / 6, 1 / 6, 1 / 9, 1 / 9, 1 / 9])
    assert (np.abs(changed.mean((0, 1)) - expected) < 4 * np.sqrt(expected / changed[..., 0].size)).all()
    steps = ((ops[:, 1:].astype(int) - ops[:, :-1]) % 5)[changed]
    assert (np.abs(np.bincount(steps, minlength=5)[1:] / len(steps) - 1 / 4) < 4 * 0.5 / np.sqrt(len(steps))).all()


def test_the_oldest_dies(table):
    """Of equals a parent is as old as P at most: a population of 3 forgets the first three after three children."""
    flat = landscape(table)._replace(reward=np.zeros(len(table)))
    history = search(evolution(3, 1), flat, jax.random.key(0), runs=50, budget=Budget(1e9, evaluations=12))
    ops = table.ops[history.rows]
    near = (ops[:, :, None] != ops[:, None]).sum(-1) <= 1  # [R, T, T]
    assert all(near[:, t, t - 3 : t].any(1).all() for t in range(3, 12))


def test_local_search_climbs_to_the_top(table):
    """Worth is a sum over edges, so the top is 6 steps from anywhere: 1 + 6 x 24 evaluations at most."""
    scene = landscape(table)
    history = search(local_search(), scene, jax.random.key(0), runs=50, budget=Budget(1e9, evaluations=1 + 6 * 24))
    assert (history.answers == table.best("cifar10")).all()
    first = table.ops[history.rows[:, :25]]
    assert ((first[:, 1:] != first[:, :1]).sum(-1) == 1).all()  # all neighbours of the start come first
    assert all(len(set(rows)) == 25 for rows in history.rows[:, :25])


def test_reinforce_learns(table):
    """With a fast rate the last draws are far better than the first ones, which are uniform."""
    scene = landscape(table)
    history = search(reinforce(rate=0.1), scene, jax.random.key(0), runs=50, budget=Budget(1e9, evaluations=150))
    reward = scene.reward[history.rows]
    assert abs(reward[:, :5].mean() - scene.reward.mean()) < 0.02
    assert reward[:, -20:].mean() > scene.reward.mean() + 3 * scene.reward.std()


def test_the_better_ones_beat_random_search(table):
    scene, budget = landscape(table), Budget(1e9, evaluations=100)
    worth = {
        name: scene.reward[search(METHODS[name](), scene, jax.random.key(0), runs=200, budget=budget).answers].mean()
        for name in METHODS
    }
    assert worth["local"] > worth["random"] and worth["evolution"] > worth["random"]


def test_worth_over_time(table):
    scene = landscape(table)
    history = search(random_search(), scene, jax.random.key(0), runs=5, budget=Budget(1000.0))
    found = over_time(history, scene.reward, np.array([1.0, 70.0, 1000.0]))
    assert np.isnan(found[:, 0]).all()
    assert (found[:, 1] == scene.reward[history.rows[:, 0]]).all()
    assert (found[:, 2] == scene.reward[history.answers]).all()


@pytest.mark.parametrize(
    "budget, text",
    [(Budget(10.0), "the dearest evaluation"), (Budget(1e9, 0), "give 1 run"), (Budget(np.inf), "never")],
)
def test_budgets_that_are_none(table, budget, text):
    with pytest.raises(ValueError, match=text):
        search(random_search(), landscape(table), jax.random.key(0), runs=2, budget=budget)


def test_accuracy_weighed_by_latency():
    """MnasNet's equations: soft, a doubled latency costs a factor 2^-0.07; hard, only what lies above the target."""
    np.testing.assert_allclose(
        weighed(0.8, np.array([10.0, 20.0, 40.0]), 20.0), 0.8 * 2.0 ** np.array([0.07, 0, -0.07])
    )
    np.testing.assert_allclose(weighed(0.8, np.array([10.0, 40.0]), 20.0, below=0, above=-1), [0.8, 0.4])


# -------------------------------------------------------------------------------------------------- command line


def jaxnas(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200"})


def test_lookup_from_the_command_line(path, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "genotype.json").write_text(to_json(from_nas_bench_201(CONVOLUTIONS)))
    told = {"config": {"strategy": "gdas", "seed": 3}, "seconds": {"total": 9.0}, "devices": {"kind": "cpu"}}
    (run / "result.json").write_text(json.dumps(told))
    shown = jaxnas("lookup", run, "--table", path, "--out", tmp_path / "worth")
    assert shown.exit_code == 0 and "70.00" in shown.output and "71.00" in shown.output, shown.output
    result = json.loads((tmp_path / "worth" / "result.json").read_text())
    assert result["kind"] == "lookup" and result["test"] == {"accuracy": 0.71} and result["valid"] == {"accuracy": 0.7}
    assert [result["config"][name] for name in ("label", "table", "dataset", "seed")] == ["gdas", "made", "cifar10", 3]
    assert result["search"] == {"strategy": "gdas", "seed": 3, "seconds": 9.0, "devices": {"kind": "cpu"}}
    assert result["cost"] == {"parameters": 400_000, "multiply_adds": 13_000_000}
    printed = json.loads(jaxnas("lookup", CONVOLUTIONS, "--table", path, "--json").output)
    assert printed["config"]["label"] == "genotype" and printed["datasets"]["cifar10"]["rank"]["test_200"] == 1


def test_tabular_from_the_command_line(path, tmp_path):
    out, few = tmp_path / "out", ("--runs", 20, "--seconds", 1000)
    shown = jaxnas("tabular", "--table", path, "--method", "random", "--method", "local", *few, "--out", out)
    assert shown.exit_code == 0 and "random" in shown.output and "best by valid" in shown.output, shown.output
    found = json.loads((out / "tabular.json").read_text())
    values = benchmark.read(path).values("cifar10", "test")[found["answers"]["local"]]
    np.testing.assert_allclose(found["summary"]["local"]["cifar10_test_200"]["mean"], 100 * values.mean())
    assert found["summary"]["best by valid"]["cifar10_test_200"] == {"mean": 71.0, "sd": None}
    assert (out / "tabular.png").stat().st_size > 5000
    refused = jaxnas("tabular", "--table", path, "--method", "luck")
    assert isinstance(refused.exception, ValueError) and "choose one of random" in str(refused.exception)


# ------------------------------------------------------------------------------------------------ official table


class Api:
    """What `convert` uses of the official API, for three architectures; the second was trained with one seed only."""

    names = (CONVOLUTIONS, CONVOLUTIONS.replace("conv_3x3", "conv_1x1"), CONVOLUTIONS.replace("nor_conv_3x3", "none"))

    def __len__(self):
        return len(self.names)

    def arch(self, index):
        return self.names[index]

    def get_more_info(self, index, dataset, iepoch=None, hp="12", is_random=True):
        seeds = [777] if index == 1 or hp == "12" else [777, 888, 999]
        if is_random is not False and is_random not in seeds:
            raise ValueError("no such seed")
        base = 10 * index + (0 if is_random is False else is_random // 111 - 7) + (5 if dataset == "cifar10" else 0)
        valid = {} if dataset == "cifar10" else {"valid-accuracy": base, "valid-per-time": 2.0}
        return {"train-all-time": 6.0 * int(hp), "test-accuracy": base + 1, **valid}

    def get_cost_info(self, index, dataset, hp="12"):
        return {"params": 0.5 + index, "flops": 100.0, "latency": 0.01}


def test_the_official_api_becomes_a_table(tmp_path):
    watched = []
    path = convert(Api(), tmp_path / "t.npz", watch=lambda rows: (watched.append(i) or i for i in rows))
    found = benchmark.read(path)
    assert watched == [0, 1, 2] and len(found) == 3 and list(tmp_path.iterdir()) == [path]
    entry = found.look_up(from_nas_bench_201(CONVOLUTIONS))
    assert entry.seeds["valid", 200] == [0.0, 0.01, 0.02] and entry.accuracy["valid", 200] == pytest.approx(0.01)
    assert entry.accuracy["test", 12] == pytest.approx(0.06) and entry.train_seconds == {12: 72.0, 200: 1200.0}
    assert found.look_up(from_nas_bench_201(Api.names[1])).seeds["valid", 200] == [0.10]
    assert found.look_up(1, dataset="cifar100").parameters == 1_500_000
    assert (landscape(found).seconds == 74).all()
    with pytest.raises(ValueError, match=r"\.npz"):
        convert(Api(), tmp_path / "t.pth")


@real
def test_known_optima_of_the_official_table():
    table = benchmark.read(REAL)
    optima = {"cifar10": (91.607, 94.373), "cifar100": (73.493, 73.513), "imagenet16_120": (46.733, 46.200)}
    for dataset, expected in optima.items():  # table 5 of arXiv:2001.00326, "optimal", read off the official data
        row = table.best(dataset)
        found = [100 * table.values(dataset, part)[row] for part in ("valid", "test")]
        np.testing.assert_allclose(found, expected, atol=6e-4)


@real
def test_searches_on_the_official_table():
    """The published protocol, 500 runs; numbers of docs/nas_bench_201.md, which this program made (key 0)."""
    table = benchmark.read(REAL)
    scene: Landscape = landscape(table)
    for method, mean in ((random_search(), 93.75), (evolution(), 93.91)):
        history = search(method, scene, jax.random.key(0))
        found = 100 * table.values("cifar10", "test")[history.answers]
        assert abs(found.mean() - mean) < 4 * found.std() / np.sqrt(500)
