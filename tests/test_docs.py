"""The code in the documents runs."""

import json
import re
import shlex
import sys
from dataclasses import replace
from functools import reduce
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import typer
from rich.console import Console
from test_product import toy

from jaxnas.cli import app
from jaxnas.names import DEVICES, RECIPES, SPACES, STOPS, STRATEGIES

ROOT = Path(__file__).parent.parent


def blocks(path):
    return re.findall(r"```python\n(.*?)```", (ROOT / path).read_text(), re.S)


def test_own_operations_and_spaces(tmp_path):
    names = {}
    for block in blocks("docs/spaces.md"):
        exec(compile(block, "docs/spaces.md", "exec"), names)
    jn, masked = names["jn"], names["masked"]
    assert masked.mask("normal").sum() == 14 * 8 + 5  # five edges end in the last node
    images, labels = np.zeros((40, 8, 8, 1), np.uint8), np.arange(40) % 10
    images += labels.astype(np.uint8)[:, None, None, None]
    np.savez(tmp_path / "mine.npz", image=images, label=labels)
    result = names["search_folder"](str(tmp_path / "mine.npz"), tmp_path / "run")
    chosen = result.genotype.edges("cell")
    assert [edge[1:] for edge in chosen] == [(0, 1), (0, 2), (1, 2)]
    assert {edge.op for edge in chosen} <= set(names["two_stages"].op_names)
    assert result.genotype.concat("cell") == (2,)
    assert jn.cost.total(jn.cost.genotype_cost(result.genotype, names["two_stages"])).parameters > 0


def test_a_run_is_watched_and_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks("docs/watching.md"):
        exec(compile(block, "docs/watching.md", "exec"), names)
    assert [epoch for epoch, *_ in names["seen"]] == [1, 2]
    assert [record["valid_accuracy"] for record in names["records"]] == [accuracy for _, accuracy, _ in names["seen"]]
    assert names["normal"].shape == (2, 14, 2) and (tmp_path / "curves.svg").exists()


def test_the_table_of_nas_bench_201(tmp_path, monkeypatch):
    """On a table made here; the functions that measure this device are run on the smallest arguments."""
    ops = np.array(list(product(range(5), repeat=6)), np.int8)
    percent, names = (
        10.0 + 10 * (ops == 3).sum(1),
        ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"),
    )
    accuracies = dict.fromkeys(("cifar10_valid_12", "cifar10_valid_200", "cifar10_test_200"), percent)
    seconds = {"cifar10_train_seconds_200": np.full(len(ops), 2000.0)}
    phone = {"latency_devices": np.array(["phone"]), "latency_ms": 1.0 + (ops == 3).sum(1)[:, None]}
    np.savez(tmp_path / "t.npz", ops=ops, op_names=np.array(names), **accuracies, **seconds, **phone)
    names = {}
    for block in blocks("docs/nas_bench_201.md"):
        exec(compile(block, "docs/nas_bench_201.md", "exec"), names)
    jn, path = names["jn"], tmp_path / "t.npz"
    # three edges or more of 3x3 convolutions: in 1,545 cells
    cell = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|none~2|"
    assert names["worth"](path, jn.genotype.from_nas_bench_201(cell)) == (
        0.3,
        1546,
        0.7,
    )  # 1,545 cells have more such edges
    assert names["baseline"](path) > 50
    assert names["fast_enough"](path, "phone", 2.0) < 7
    official = SimpleNamespace(NASBench201API=lambda path: path)
    monkeypatch.setitem(sys.modules, "nas_201_api", official)
    told = lambda api, path: (tmp_path / "made").write_text(f"{api} {path}")
    monkeypatch.setattr("jaxnas.evaluation.official_table.convert", told)
    names["make"]("official.pth", "t.npz")
    assert (tmp_path / "made").read_text() == "official.pth t.npz"
    names["latencies"] = lambda space: {"normal": np.ones((1, 14, 8)), "reduce": np.ones((2, 14, 8))}
    space = jn.spaces.darts(4, 3)
    row = names["fbnet"](1000, space)
    gates = {cell: jn.Gates(jnp.ones((14, 8)), jnp.ones(14)) for cell in space.cells}
    cost = row.penalty(gates, {}, space, jnp.float32(0))
    np.testing.assert_allclose(cost, 0.2 * np.log(1e6 * 3 * 14 * 8 + 100) ** 0.6, rtol=1e-5)
    assert row.join is jn.penalty.times
    median, low, high = names["milliseconds"](lambda images: images.sum(), jnp.ones((1, 4, 4, 3)))
    assert low <= median <= high


def test_retraining(tmp_path):
    """With the smallest network of the space, skips everywhere, and few images; the recipe is shortened."""
    names = {}
    for block in blocks("docs/evaluation.md"):
        exec(compile(block.replace("(36, 20,", "(2, 3,"), "docs/evaluation.md", "exec"), names)
    jn, digits = names["jn"], names["jn"].data.load("digits")
    few = replace(digits, train=jn.Batch(*(leaf[:16] for leaf in digits.train)))
    recipe = replace(names["recipe"], epochs=1, batch=8, auxiliary=0.0)
    cell = [("skip_connect", 0, node) for node in (2, 3, 4, 5)]
    skips = jn.genotype.genotype("darts", {"normal": cell, "reduce": cell}, dict.fromkeys(("normal", "reduce"), (2, 5)))
    assert 0 <= names["retrain"](skips, few, recipe, tmp_path / "run") <= 1
    assert json.loads((tmp_path / "run" / "result.json").read_text())["config"]["recipe"]["drop_path"] == 0.3


SPECIAL = {
    "spaces.md",
    "nas_bench_201.md",
    "evaluation.md",
    "composition.md",
    "comparison.md",
    "robust.md",
    "watching.md",
}  # run elsewhere
WRITTEN = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
PAGES = [page for page in WRITTEN if "```python" in page.read_text(encoding="utf-8")]


def printed(block):
    """What a block says that it prints: behind `print(...)  # `, several lines apart by bars."""
    found = re.findall(r"^ *print\(.*\)  # (.*)$", block, re.M)
    return [line for text in found for line in text.split(" | ")]


SMALLER = {  # page -> what is written there -> what is run
    "README.md": {
        "jn.spaces.darts(channels=4, layers=5,": "jn.spaces.s2(channels=2, layers=3,",
        "jn.darts(steps=500)": "jn.darts(steps=4, hypergradient=jn.first_order())",
    },
    "tour.md": {
        "jn.data.split(digits, seed=0)": "jn.data.split(digits, seed=0, fraction=0.01)",
        "jn.spaces.darts(channels=4, layers=5,": "jn.spaces.nas_bench_201(2, 1,",
        "steps=10 * 12, every=12,": "steps=1, hypergradient=jn.first_order(),",
        "epochs=10)": "epochs=1)",
        "augment=augment)\njn.drawing": "augment=augment, batch=8, console=QUIET)\njn.drawing",
    },
}


def replaced(block, page):
    """A block of a page with what is run in place of what is written."""
    return reduce(lambda text, change: text.replace(*change), SMALLER.get(page, {}).items(), block)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in SPECIAL], ids=lambda page: page.stem)
def test_the_blocks_of_a_page(page, tmp_path, monkeypatch, capsys):
    """All blocks in order, in one namespace; what they print is what they say, where they are run as they stand."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page.stem, "QUIET": Console(quiet=True)}
    changes = SMALLER.get(page.name, {})
    assert all(sum(old in block for block in blocks(page)) == 1 for old in changes)
    for block in blocks(page):
        exec(compile(replaced(block, page.name), str(page), "exec"), names)
        assert changes or capsys.readouterr().out.splitlines() == printed(block)


def test_no_page_is_left_out():
    """Every page with Python is run here or by a test that names it."""
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    names = {page.name for page in PAGES}
    assert names.issuperset(SPECIAL) and all(
        f'"docs/{name}"' in tests or f'"docs" / "{name}"' in tests for name in SPECIAL
    )


NAMES = {"strategy": STRATEGIES, "space": SPACES, "recipe": RECIPES, "devices": DEVICES, "stop": STOPS}


COMMANDS = typer.main.get_command(app).commands
DOCUMENTS = [ROOT / "BUILD.md", *WRITTEN]


def command_lines(path):
    """The `jaxnas` command lines of a document, in blocks and in the middle of sentences."""
    text = re.sub(r"```\w+\n.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
    blocks, rest = re.findall(r"```\n.*?```", text, re.S), re.sub(r"```.*?```", "", text, flags=re.S)
    indented = re.findall(r"^    .*$", rest, re.M)
    lines = re.findall(r"^(?:.* )?(?:\S+/)?jaxnas ([a-z]+(?: .*)?)$", "\n".join([*blocks, *indented]), re.M)
    inline = re.findall(r"`(?:\S*/)?jaxnas ([a-z][^`]+)`", rest)
    return [(path.name, " ".join(line.partition(" > ")[0].split())) for line in [*lines, *inline]]


@pytest.mark.parametrize(("page", "line"), [found for path in DOCUMENTS for found in command_lines(path)])
def test_a_command_line_parses(page, line):
    """Each option is one of its command, each value of its type, each name one that there is; nothing is run."""
    name, *args = shlex.split(line, comments=True)
    values = COMMANDS[name].make_context(name, args).params if args else {}
    for option, known in NAMES.items():
        assert values.get(option) in (None, *known), f"{page} names a {option} that is none"


def test_command_lines_are_found():
    assert len(command_lines(ROOT / "README.md")) >= 16
    assert ("tour.md", "compare runs/a-trained runs/random-trained --out fair") in command_lines(ROOT / "docs/tour.md")


def test_searches_side_by_side():
    """With a toy network, two keys on each half of four devices: the steps that each key makes alone."""
    names = {}
    exec(compile(blocks("docs/scaling.md")[0], "docs/scaling.md", "exec"), names)
    jn = names["jn"]
    space = jn.spaces.nas_bench_201(channels=12, cells_per_stage=1, classes=3, image=(4, 4, 12))
    search = jn.bind(jn.darts(9, hypergradient=jn.first_order()), space, model=toy)
    labels = jnp.ones((4, 2), jnp.int32)
    batch = lambda seed: jn.Batch(jax.random.normal(jax.random.key(seed), (4, 2, 4, 4, 12)), labels)
    keys, batches = jax.random.split(jax.random.key(0), 4), jn.Batches(batch(1), batch(2))
    states, _ = names["side_by_side"](search, keys, batches, jax.devices()[:4])
    for i in range(4):
        alone, _ = jax.jit(search.step)(search.init(keys[i]), jn.seeds.seed(batches, i))
        close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
        jax.tree.map(close, jn.seeds.seed(states.bilevel.alpha, i), alone.bilevel.alpha)
