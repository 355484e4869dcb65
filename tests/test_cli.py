"""The command line as a person meets it: what helps, what it prints, and what it says to nonsense."""

import json
import signal

import numpy as np
import pytest
from conftest import python
from published import DARTS_V2
from typer.testing import CliRunner

from jaxnas import cli
from jaxnas.cli import app
from jaxnas.interruption import Interrupted
from jaxnas.names import SPACES, STRATEGIES
from jaxnas.strategies.mixing import broadcast


def jaxnas(*args, **options):
    return python("-m", "jaxnas", *args, **options)


@pytest.mark.parametrize("command", ["", "search", "draw", "info", "evaluate", "export", "compare", "ablate"])
def test_help(command):
    shown = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0 and "Usage" in shown.output
    if command == "search":
        for name in (*STRATEGIES, *SPACES, "--dataset", "--data-dir", "--epochs", "--seed", "--out", "--smoke"):
            assert name in shown.output


@pytest.mark.parametrize(
    "strategy, told",
    [
        ("darts", "719 images move the weights, 719 alpha;"),
        ("random-sharing", "719 images move the weights, 719 score genotypes;"),
        ("snas", "719 images move the weights and alpha, 719 do nothing"),
    ],
)
def test_what_the_halves_do_is_told(strategy, told, monkeypatch, tmp_path):
    monkeypatch.setattr(cli, "run", lambda *args, **options: None)
    done = CliRunner().invoke(app, ["search", "--strategy", strategy, "--out", str(tmp_path)], env={"COLUMNS": "200"})
    assert done.exit_code == 0 and told in done.output


@pytest.mark.smoke
def test_a_search_draw_and_info(tmp_path):
    """The smallest search: S2 of R-DARTS, first order, a few steps."""
    smallest = ("--smoke", "--strategy", "darts-first-order", "--space", "s2", "--channels", 2, "--depth", 3)
    done = jaxnas("search", *smallest, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "digits: 8 images move the weights, 8 alpha" in done.stdout and "cells.png" in done.stdout
    chosen = json.loads((tmp_path / "run" / "genotype.json").read_text())
    ops = {edge[0] for edge in chosen["cells"]["normal"]}
    assert chosen["space"] == "s2" and ops <= {"skip_connect", "sep_conv_3x3"}
    drawn = jaxnas("draw", tmp_path / "run", "--out", tmp_path / "pictures" / "cell.svg")
    assert drawn.returncode == 0, drawn.stderr
    assert "<svg" in (tmp_path / "pictures" / "cell.svg").read_text()
    cost = jaxnas("info", tmp_path / "run")
    assert cost.returncode == 0, cost.stderr
    again = jaxnas("search", *smallest, "--out", tmp_path / "run")
    assert again.returncode == 1 and "is in use" in again.stderr and "Traceback" not in again.stderr


def test_info_counts_what_the_papers_count():
    shown = CliRunner().invoke(app, ["info", DARTS_V2], env={"COLUMNS": "200"})
    assert shown.exit_code == 0 and "3,349,342" in shown.output and "528,359,040" in shown.output
    assert shown.output == CliRunner().invoke(app, ["info", "DARTS_V2"], env={"COLUMNS": "200"}).output
    shown = CliRunner().invoke(app, ["info"], env={"COLUMNS": "200"})
    assert "1,930,618" in shown.output and "300,255,744" in shown.output
    shown = CliRunner().invoke(app, ["info", "--space", "nas_bench_201"], env={"COLUMNS": "200"})
    assert "1,692,826" in shown.output and "243,712,640" in shown.output


@pytest.fixture(scope="module")
def stray_labels(tmp_path_factory):
    path = tmp_path_factory.mktemp("npz") / "mine.npz"
    np.savez(path, image=np.zeros((40, 8, 8, 1), np.uint8), label=np.full(40, -3))
    return path


@pytest.mark.parametrize(
    "args, text",
    [
        (["search", "--strategy", "dartz"], "no strategy is called 'dartz'; choose one of darts,"),
        (["search", "--space", "mobile"], "no space is called 'mobile'; choose one of darts, nas_bench_201"),
        (["search", "--dataset", "no_such_set"], "no_such_set"),
        (["search", "--dataset", "mine.npz"], "mine.npz"),
        (["search", "--channels", "3"], "channels=3"),
        (["search", "--depth", "2"], "layers=2"),
        (["search", "--fraction", "0"], "fraction"),
        (["search", "--resume"], "--out"),
        (["search", "--stop", "soon"], "no rule to stop by is called 'soon'; choose one of never, sharp-rise"),
        (["search", "--strategy", "darts-es", "--curvature", "0"], "sharp-rise looks at the curvature"),
        (["info", "--side", "30"], "multiples of 4"),
        (["info", "no genotype"], "enotype"),
        (["info", "darts_v3"], "no published genotype; near it: DARTS_V2, DARTS_V1, "),
        (["draw", "|none~0|", "--out", "x.bmp"], ".png"),
        (["draw", "."], "genotype.json"),
    ],
    ids=lambda value: "_".join(value[1:]) if isinstance(value, list) else "",
)
def test_nonsense_is_answered_in_one_sentence(args, text, tmp_path):
    done = jaxnas(*args, cwd=tmp_path)
    assert done.returncode == 1 and text in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert not any(tmp_path.glob("runs/*"))


def test_labels_outside_the_classes(stray_labels, tmp_path):
    done = jaxnas("search", "--dataset", stray_labels, cwd=tmp_path)
    assert done.returncode == 1 and "-3" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_the_exit_status_and_how_to_go_on_is_told(number, status, monkeypatch, tmp_path):
    def run(*args, **options):
        raise Interrupted(number, "stopped in epoch 3, after 2 of 9 steps")

    monkeypatch.setattr(cli, "run", run)
    done = CliRunner().invoke(app, ["search", "--smoke", "--out", str(tmp_path / "[b]")], env={"COLUMNS": "300"})
    assert done.exit_code == status
    assert "stopped in epoch 3, after 2 of 9 steps; nothing is lost" in done.output
    assert f"--out {tmp_path / '[b]'} --resume" in done.output


def test_rows_know_what_a_tabulated_space_needs():
    """GDAS has the gradient of its code for NAS-Bench-201; nothing changes elsewhere."""
    settings = SPACES["nas_bench_201"].settings
    assert settings[STRATEGIES["gdas"]]["convention"] is broadcast and not SPACES["darts"].settings
    assert {name for name, row in STRATEGIES.items() if row in settings} == {"gdas", "nasp", "random-sharing"}
