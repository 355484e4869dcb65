"""What is turned off, what goes with it, and a whole ablation with a search that costs nothing."""

import json
from pathlib import Path

import optax
import pytest
from rich.console import Console
from typer.testing import CliRunner

from jaxnas import cli_compare, names, runner
from jaxnas.ablation import PLAIN, ablations, staged, told
from jaxnas.bilevel import alternating, every
from jaxnas.cli import app
from jaxnas.planning import plan
from jaxnas.stages import Stage
from jaxnas.strategies.algorithms import dr_nas, gdas, nasp, pc_darts, snas
from jaxnas.strategies.decoding import argmax_edges, top_edges
from jaxnas.strategies.mixing import dropped_path, partial_channels
from jaxnas.strategies.strategy import Strategy


@pytest.mark.parametrize(
    "name, slots",
    [
        ("darts-first-order", set()),
        ("darts", {"hypergradient"}),
        ("pc-darts", {"relaxation", "mixing", "rest"}),
        ("gdas", {"relaxation", "mixing", "decode", "order"}),
        ("snas", {"relaxation", "mixing", "penalty", "decode"}),
        ("smooth-darts", {"perturb"}),
        ("fair-darts", {"relaxation", "penalty", "decode"}),
        ("i-darts", {"hypergradient", "rest", "order"}),
        ("gaea", set()),  # alpha are points of a simplex, and so is its step
    ],
)
def test_parts_that_are_not_plain(name, slots):
    assert set(ablations(names.STRATEGIES[name](100))) == slots


def test_one_slot_changes_and_the_others_stay():
    row = pc_darts(100)
    for name, other in ablations(row).items():
        slot = "solver" if name == "rest" else name
        same = [s for s in row.__dataclass_fields__ if getattr(row, s) is getattr(other, s)]
        assert set(row.__dataclass_fields__) - set(same) == {slot}
        assert slot == "solver" or getattr(other, slot) is PLAIN[slot]
        assert name not in ablations(other)
    assert told(row, ablations(row)["mixing"]) == "mixing: partial_channels(weighted_sum) -> weighted_sum"
    assert told(row, ablations(row)["rest"]) == "rest: after -> always"


def test_what_needs_gates_of_0_or_1_goes_with_them():
    assert told(gdas(9), ablations(gdas(9))["relaxation"]).endswith("; mixing: sampled -> weighted_sum")
    bare = ablations(nasp(9))["relaxation"]
    assert bare.mixing is PLAIN["mixing"] and bare.perturb is PLAIN["perturb"]
    assert ablations(snas(9))["relaxation"].mixing is not PLAIN["mixing"]  # dropped paths take any gates


def test_equal_constructors_with_other_arguments_differ():
    assert "decode" in ablations(dr_nas(9))  # top_edges that may choose `none`
    one, two = (Strategy(solver=pc_darts(9).solver, mixing=partial_channels(k)) for k in (2, 4))
    assert "mixing" not in ablations(one, {**PLAIN, "mixing": partial_channels(2)})
    assert "mixing" in ablations(two, {**PLAIN, "mixing": partial_channels(2)})
    same = dropped_path(optax.constant_schedule(0.3)), dropped_path(optax.constant_schedule(0.3))
    assert not ablations(Strategy(solver=one.solver, mixing=same[0]), {"mixing": same[1]}).keys() & {"mixing"}
    spaced = snas(9).replace(decode=argmax_edges())
    assert "decode" not in ablations(spaced, {**PLAIN, "decode": argmax_edges()})
    assert "decode" in ablations(spaced, {**PLAIN, "decode": top_edges()})


def test_a_solver_is_made_again_with_other_settings():
    tx = optax.sgd(0.1)
    solver = alternating(tx, tx, when=every(3), weights_first=True)
    again = solver.like(weights_first=False)
    assert again.like.keywords["when"] is solver.like.keywords["when"] and not again.like.keywords["weights_first"]


def test_stages_lose_the_part_that_they_have():
    plain, row = pc_darts(9).replace(mixing=PLAIN["mixing"]), pc_darts(9)
    without = staged([Stage(plain, 1), Stage(row, 2)])["mixing"]
    assert without[0].strategy is plain and without[1].strategy.mixing is PLAIN["mixing"] and without[1].epochs == 2


@pytest.fixture
def instant(monkeypatch):
    """A search that writes its record, and does nothing else: its accuracy is a tenth for each slot it has left."""
    seen = []

    def run(stages, space, data, key, *, out, settings, resume, **rest):
        seen.append((out.name, resume))
        out.mkdir(parents=True, exist_ok=True)
        slots = len(ablations(stages[0].strategy))
        config = {**settings, "split": data.digest, "epochs": [stage.epochs for stage in stages], "space": space.name}
        genotype = {"space": space.name, "of": settings["strategy"]}
        record = {"config": config, "genotype": genotype, "answer": {"valid_accuracy": slots / 10}}
        record |= {"versions": {"jax": "0"}, "devices": {"kind": "none"}, "seconds": {"total": 1.0}}
        (out / "config.json").write_text(json.dumps(config))
        (out / "result.json").write_text(json.dumps(record))

    monkeypatch.setattr(runner, "run", run)
    return seen


def ablate(*args):
    return CliRunner().invoke(app, ["ablate", *map(str, args)], env={"COLUMNS": "200"})


def test_the_command_runs_every_variant_with_every_seed(instant, tmp_path):
    options = ("--strategy", "pc-darts", "--space", "s2", "--channels", 4, "--depth", 3, "--smoke", "--seeds", 2)
    done = ablate(*options, "--out", tmp_path / "a")
    assert done.exit_code == 0, done.output
    variants = ("whole", "without-relaxation", "without-mixing", "without-rest")
    assert [name for name, _ in instant] == [f"{name}-{seed}" for seed in (0, 1) for name in variants]
    found = json.loads((tmp_path / "a" / "comparison.json").read_text())
    assert {one["name"]: (one["accuracy"]["n"], one["accuracy"]["mean"]) for one in found["methods"]} == {
        "pc-darts": (2, 30.0),
        **{f"pc-darts without {part}": (2, 20.0) for part in ("relaxation", "mixing", "rest")},
    }
    assert "not of the cells that were found" in done.output
    assert all(pair["difference"]["n"] == 2 for pair in found["pairs"]) and len(found["pairs"]) == 6
    again = ablate(*options, "--out", tmp_path / "a", "--resume")
    assert again.exit_code == 0 and all(resumed for _, resumed in instant[8:])


def test_nothing_to_turn_off(instant, tmp_path):
    done = ablate("--strategy", "darts-first-order", "--space", "s2", "--smoke", "--out", tmp_path / "a")
    assert done.exit_code == 1 and "nothing can be turned off" in str(done.exception) and not instant


def test_genotypes_can_be_judged_too(instant, tmp_path):
    one = plan("smooth-darts", "nas_bench_201", channels=4, smoke=True)
    judged = cli_compare.run_ablation(
        [one], tmp_path, judge=lambda found: found.with_suffix(".judged"), console=Console(quiet=True)
    )
    assert [Path(path).name for path in judged] == [
        "whole-0",
        "whole-0.judged",
        "without-perturb-0",
        "without-perturb-0.judged",
    ]
