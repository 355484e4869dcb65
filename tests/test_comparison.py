"""Comparisons of runs that this file writes: what they show, what they refuse, and what a page may hold."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jaxnas.cli import app
from jaxnas.evaluation import outcomes, report
from jaxnas.evaluation.comparison import compare
from jaxnas.evaluation.page import page
from jaxnas.evaluation.rules import SUPERNET, notes, verdicts
from jaxnas.evaluation.statistics import coverage

RECIPE = {"epochs": 600, "batch": 96, "rate": 0.025}
NETWORK = {"name": "darts", "channels": 36, "depth": 20, "classes": 10, "image": [32, 32, 3], "auxiliary": True}
HOSTILE = "<script>alert('x')</script> | [a](javascript:b) [bold]"


def genotype(op):
    return {"space": "darts", "cells": {"normal": [[op, 0, 2]]}, "concat": {"normal": [2]}}


def trained(label, seed, accuracy, /, **changes):
    """The record of a retraining; a change is of a setting, or of a part of the record."""
    config = {"genotype": genotype(f"{label} {seed}"), "label": label, "source": None, "dataset": "cifar10"}
    config |= {"fraction": 1.0, "split": "abcdef0123", "seed": seed, "network": NETWORK, "recipe": RECIPE}
    config["images"] = {"train": 50_000, "valid": 0, "test": 10_000}
    search = {"strategy": label, "seconds": 100.0 + seed, "devices": {"kind": "H100"}, "seed": seed}
    made = {"kind": "evaluation", "versions": {"jaxnas": "1", "jax": "2"}, "devices": {"kind": "A100"}}
    made |= {"search": search, "test": {"accuracy": accuracy, "loss": 0.1}, "valid": None, "train": {}}
    made |= {"cost": {"parameters": 3_000_000, "multiply_adds": 500_000_000}, "seconds": {"total": 9.0}}
    made |= {"memory_bytes": {"peak": 7}, "config": config}
    parts = {name: value for name, value in changes.items() if name in made}
    return {**made, **parts, "config": {**config, **{n: v for n, v in changes.items() if n not in made}}}


def searched(strategy, seed, valid, op=None, **changes):
    config = {"strategy": strategy, "dataset": "cifar10", "seed": seed, "fraction": 1.0, "channels": 16, "depth": 8}
    config |= {"split": f"of seed {seed}", "epochs": [50], "batch": 64, "space": {"name": "darts"}, **changes}
    made = {"versions": {"jax": "2"}, "devices": {"kind": "cpu"}, "config": config, "seconds": {"total": 5.0}}
    answer = {} if valid is None else {"valid_accuracy": valid}
    return {**made, "genotype": genotype(op or f"{strategy} {seed}"), "answer": answer, "memory_bytes": {"temp": 3}}


def read(*records):
    return [outcomes.outcome(record, f"run{i}") for i, record in enumerate(records)]


def three(label, *accuracies, **changes):
    return [trained(label, seed, accuracy, **changes) for seed, accuracy in enumerate(accuracies)]


DARTS, RANDOM = three("darts", 0.97, 0.972, 0.974), three("random", 0.96, 0.964, 0.968)
BOTH = [*DARTS, *RANDOM]


def test_means_rank_and_the_best_does_not():
    lucky = three("lucky", 0.99, 0.93, 0.93)
    found = compare(read(*lucky, *BOTH))
    assert [method.name for method in found.methods] == ["darts", "random", "lucky"] and found.baseline == "random"
    accuracy = found.methods[0].accuracy
    assert accuracy.mean == pytest.approx(97.2) and accuracy.deviation == pytest.approx(0.2)
    assert found.methods[0].improvement == pytest.approx(100 * 0.8 / 96.4)
    assert found.methods[2].accuracy.best == pytest.approx(99.0)


def test_differences_are_of_equal_seeds():
    (pair,) = compare(read(*DARTS, *reversed(RANDOM))).pairs
    assert (pair.first, pair.second, pair.seeds) == ("darts", "random", "training seed")
    # 1.0, 0.8, 0.6
    assert pair.difference.mean == pytest.approx(0.8) and pair.difference.deviation == pytest.approx(0.2)
    both = [trained("darts", 0, 0.9 + s / 100, search={"strategy": "darts", "seed": s}, source=str(s)) for s in (0, 1)]
    other = [trained("gdas", 0, 0.8 + s / 50, search={"strategy": "gdas", "seed": s}, source=str(s)) for s in (0, 1)]
    (pair,) = compare(read(*both, *other)).pairs  # one training seed: matched by the searches
    assert pair.seeds == "search and training seeds" and pair.difference.mean == pytest.approx(9.5)
    apart = [trained("gdas", seed, 0.9) for seed in (7, 8)]
    assert compare(read(*DARTS, *apart)).pairs == ()


def test_scores_of_supernets_beside_true_accuracies():
    """Three searches, of which one orders its genotype wrongly: two of three pairs agree."""
    searches = [searched("darts", seed, valid) for seed, valid in enumerate((0.80, 0.90, 0.85))]
    found = compare(read(*BOTH, *searches))
    assert [one.accuracy for one in found.scored] == pytest.approx([97.0, 97.2, 97.4])
    assert found.ranks.kendall == pytest.approx(1 / 3) and found.ranks.spearman == pytest.approx(0.5)
    assert found.kind == "evaluation" and {method.name for method in found.methods} == {"darts", "random"}


@pytest.mark.parametrize(
    "change, text",
    [
        ({"recipe": {**RECIPE, "epochs": 50}}, "recipe.epochs is 600 in run0, run1, run2; 50 in run3"),
        ({"network": {**NETWORK, "channels": 16}}, "network.channels is 36"),
        ({"dataset": "cifar100"}, 'dataset is "cifar10" in run0'),
        ({"fraction": 0.5}, "fraction is 1.0"),
        ({"images": {"train": 45_000, "valid": 5_000, "test": 10_000}}, "images.valid is 0 in"),
        ({"genotype": {**genotype("a"), "space": "s2"}}, 'space is "darts" in run0, run1, run2; "s2" in run3'),
        ({"split": "another"}, 'runs with seed 0 used different images: split is "abcdef0123" in run0; "another"'),
        ({"kind": "lookup"}, 'kind is "evaluation" in run0, run1, run2; "lookup" in run3'),
        ({"kind": "guess"}, "kind 'guess'"),
        ({"seed": [1]}, "seed is [1], which is no int"),
        ({"cost": {"parameters": "many"}}, "parameters is 'many'"),
        ({"test": None}, "no accuracy on test images"),
        ({"test": {"accuracy": 97.0}}, "accuracy is 97.0; a comparison needs a fraction"),
        ({"test": {"accuracy": float("nan")}}, "a fraction"),
        ({"label": None, "search": None}, "does not name its method"),
    ],
)
def test_what_is_not_comparable_is_refused(change, text):
    with pytest.raises(ValueError) as error:
        compare(read(*DARTS, trained("random", 0, 0.96, **change)))
    assert text in str(error.value)


def test_searches_of_different_budgets_and_copies_are_refused():
    with pytest.raises(ValueError, match=r"epochs is \[50\] in run0; \[25\] in run1"):
        compare(read(searched("darts", 0, 0.8), searched("gdas", 0, 0.8, epochs=[25])))
    with pytest.raises(ValueError, match="run3 repeats run0"):
        compare(read(*DARTS, DARTS[0]))
    with pytest.raises(ValueError, match="baseline 'rs'; the methods are darts"):
        compare(read(*DARTS), baseline="rs")
    with pytest.raises(ValueError, match="nothing to compare"):
        compare([])


def test_rules_that_are_kept_and_rules_that_are_not():
    kept = compare(read(*BOTH, *three("darts without mixing", 0.95, 0.95, 0.95)))
    assert [one.met for one in verdicts(kept)] == ["yes", "yes", "in part", "yes"] and notes(kept) == ()
    single = compare(read(trained("darts", 0, 0.97), trained("gdas", 0, 0.96, versions={"jaxnas": "0", "jax": "2"})))
    said = verdicts(single)
    assert [one.met for one in said] == ["yes", "no", "in part", "no"]
    assert "No random search" in said[1].why[0] and any("One run only" in why for why in said[3].why)
    assert any("versions of jaxnas: 0, 1" in note for note in notes(single))
    slower = three("random", 0.9, 0.9, 0.9, search={"seconds": 1.0, "devices": {"kind": "cpu"}, "seed": 0})
    assert "Seconds of search are not comparable: they were measured on H100, cpu." in notes(
        compare(read(*DARTS, *slower))
    )
    again = [trained("darts", seed, 0.97, genotype=genotype("a")) for seed in (0, 1)]
    assert any("One genotype only" in why for why in verdicts(compare(read(*again)))[3].why)
    table = compare(read(*(trained("rs", s, 0.9, kind="lookup", table="nb") for s in (0, 1))))
    assert verdicts(table)[0].met == "yes" and verdicts(table)[2].met == "yes"


def test_supernets_come_with_a_warning():
    found = compare(read(searched("darts", 0, 0.8), searched("darts", 1, 0.9), searched("random", 0, None)))
    assert notes(found)[0] == SUPERNET and "random" in notes(found)[1] and verdicts(found)[0].met == "in part"
    assert found.baseline is None and found.methods[-1].accuracy is None
    assert SUPERNET in page(found) and "| random | 1 | 1 | 1 | – |" in report.markdown(found)


class Page(HTMLParser):
    """Tags in order, checked that each one closes what is open."""

    VOID = ("meta",)

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.text = [], set(), []

    def handle_starttag(self, tag, attrs):
        self.seen |= {tag, *(name for name, _ in attrs)}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen |= {tag, *(name for name, _ in attrs)}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_whole_and_hostile_labels_stay_text():
    searches = [searched(HOSTILE, seed, 0.8 + seed / 10, op=f"darts {seed}") for seed in (0, 1)]
    text = page(compare(read(*BOTH, *three(HOSTILE, 0.9, 0.91, 0.92), *searches)))
    found = Page()
    found.feed(text)
    found.close()
    assert found.open == [] and text.count("<svg") == 3  # accuracy, cost, ranks
    assert not found.seen & {"script", "img", "link", "iframe", "href", "src", "onload", "onclick"}
    assert HOSTILE in found.text
    for one in ("Every network is trained by one recipe", "Random search takes part", "Several seeds count"):
        assert any(one in part for part in found.text)


@pytest.fixture
def folders(tmp_path):
    for i, record in enumerate([*BOTH, *three(HOSTILE, 0.9, 0.91, 0.92), trained("../../x", 0, 0.5)]):
        (tmp_path / f"run{i}").mkdir()
        (tmp_path / f"run{i}" / "result.json").write_text(json.dumps(record))
    return sorted(map(str, tmp_path.iterdir()))


def jaxnas(*args):
    return CliRunner().invoke(app, ["compare", *map(str, args)])


def test_the_command_writes_three_files_and_no_more(folders, tmp_path):
    before = set(tmp_path.rglob("*"))
    done = jaxnas(*folders, "--out", tmp_path / "new" / "out")
    assert done.exit_code == 0, done.output
    written = {path.name for path in set(tmp_path.rglob("*")) - before if path.is_file()}
    assert written == {"comparison.md", "comparison.json", "comparison.html"}
    assert "97.20 ± 0.20" in done.stdout and HOSTILE.split()[0] in done.stdout  # text, on a terminal
    document = jaxnas(*folders, "--markdown").stdout
    assert "| darts | 3 | 3 | 3 | 97.20 ± 0.20 |" in document and "<script>" not in document
    assert document == (tmp_path / "new" / "out" / "comparison.md").read_text(encoding="utf-8")
    found = json.loads((tmp_path / "new" / "out" / "comparison.json").read_text())
    assert found["methods"][0]["accuracy"]["mean"] == pytest.approx(97.2) and len(found["rules"]) == 4
    assert json.loads(jaxnas(*folders, "--json").stdout) == found


def test_the_command_says_what_is_wrong(folders, tmp_path):
    (tmp_path / "run0" / "config.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "result.json").write_text('{"kind": "evaluation", "config": 3}')
    for args, text in (
        ([*folders, "--out", folders[0]], "is the folder of a run"),
        ([tmp_path / "empty"], "no result.json in"),
        ([tmp_path / "broken"], "is not the record of a run"),
        ([folders[0], folders[0]], "given twice"),
    ):
        done = jaxnas(*args)
        assert done.exit_code == 1 and text in str(done.exception)
    assert [path.name for path in (tmp_path / "run0").iterdir() if path.suffix != ".json"] == []


def test_the_document(folders, capsys):
    text = (Path(__file__).parent.parent / "docs" / "comparison.md").read_text(encoding="utf-8")
    names = {"folders": folders}
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(compile(block, "docs/comparison.md", "exec"), names)
    assert "darts 97.20, +0.83 %" in capsys.readouterr().out and set(names["parts"]) == {"relaxation", "mixing", "rest"}
    assert all(f"{100 * coverage(n):.0f} %" in text for n in (3, 5, 10))
