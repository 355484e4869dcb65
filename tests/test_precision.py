"""Precision: that programs are lowered with it, what stays float32, what a run says, refuses and warns of."""

import json
import re
import warnings
from collections import Counter
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from jaxnas import parallel, precision, retraining, runner
from jaxnas.cli import app
from jaxnas.data import Batch, Split
from jaxnas.evaluation import outcomes, recipes
from jaxnas.evaluation.comparison import compare
from jaxnas.evaluation.diagnostics import Watch
from jaxnas.hypergradient import INNER, Batches, finite_difference, first_order, one_pass, unrolled
from jaxnas.names import PRECISIONS
from jaxnas.precision import BFLOAT16, FLOAT32, TF32, LowPrecision, Precision
from jaxnas.refusals import doubt
from jaxnas.retraining import fit
from jaxnas.runner import run
from jaxnas.search import bind
from jaxnas.spaces import genotype
from jaxnas.spaces.darts import SEARCHED, darts, darts_network
from jaxnas.spaces.depthwise import depthwise_convolution
from jaxnas.spaces.network import network
from jaxnas.spaces.networks import supernet
from jaxnas.spaces.norm import BatchNorm
from jaxnas.stages import Stage
from jaxnas.strategies.algorithms import darts as row

PAGE = Path(__file__).parent.parent / "docs" / "precision.md"
KEPT = ("skip_connect", "sep_conv_3x3")
SPACE = darts(channels=2, layers=3, classes=4, image=(8, 8, 1))
SPACE = SPACE.replace(ops=tuple(op for op in SEARCHED if op[0] in KEPT))
STABLEHLO = {
    "float32": "HIGHEST",
    "tf32": "HIGH",
    "bfloat16": "DEFAULT",
}  # products -> what a lowered program calls them
CELL = [("sep_conv_3x3", 0, 2), ("dil_conv_3x3", 1, 2), ("skip_connect", 0, 3), ("sep_conv_5x5", 2, 3)]
FOUND = genotype.genotype(
    "darts", dict.fromkeys(("normal", "reduce"), CELL), dict.fromkeys(("normal", "reduce"), (2, 3))
)


class Compiled(Exception):
    """As far as these tests go: nothing is compiled."""


class Program:
    """What a compiler would have made of a lowered program."""

    def __init__(self, text):
        self.text = text

    def memory_analysis(self):
        return None

    def __call__(self, *args):
        raise Compiled


def images(count):
    draw = np.random.default_rng(count)
    return Batch(draw.integers(0, 255, (count, 8, 8, 1)).astype(np.uint8), draw.integers(0, 4, count).astype(np.int32))


DATA = Split(images(8), images(9), images(5), "digest of the split")


def augment(key, pixels):
    return pixels.astype(jnp.float32) / 100


def lowering(found):
    """One device, whose programs are lowered for two platforms, and not compiled."""

    def both(run, *shapes):
        traced = jax.jit(run, donate_argnums=0).trace(*shapes)
        found["cpu"], found["cuda"] = (traced.lower(lowering_platforms=(one,)).as_text() for one in ("cpu", "cuda"))
        return SimpleNamespace(compile=lambda options: Program(found["cpu"]))

    return parallel.one()._replace(lower=both)


@pytest.fixture
def lowered(monkeypatch):
    """The text of each program that is lowered but not compiled."""
    texts = []
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda low, *args: texts.append(low.as_text()) or Program(""))
    return texts


def start(out, strategy=None, **options):
    """A search up to its first use of a device."""
    stages = [Stage(strategy or row(9, hypergradient=first_order()), 1)]
    fixed = {"augment": augment, "batch": 4, "console": Console(quiet=True), "settings": {"seed": 0}}
    run(stages, SPACE, DATA, jax.random.key(0), out=out, **{**fixed, "placement": STOPS, **options})


def stops(batch):
    raise Compiled


STOPS = parallel.one()._replace(images=stops)


def search_in(out, strategy=None, **options):
    """A search as far as its programs go; the text of its step for each platform."""
    found = {}
    with pytest.raises(Compiled):
        start(out, strategy, placement=lowering(found), **options)
    return found


def products(text):
    """{(operation, types of both operands, precisions of both): how many} in a lowered program."""
    lines = [line for line in text.splitlines() if re.search(r"stablehlo\.(dot_general|convolution|dot)\b", line)]
    counted = Counter()
    for line in lines:
        name = re.search(r"stablehlo\.(\w+)", line)[1]
        types = re.search(r": \(tensor<([^>]*)>, tensor<([^>]*)>\)", line).groups()
        said = tuple(re.findall(r"\b(DEFAULT|HIGH|HIGHEST)\b", line))
        counted[name, tuple(one.split("x")[-1] for one in types), said] += 1
    return counted


def check(text, asked: Precision, least: int):
    """All products have the precision that was asked for, and operands of the activations' type, bar the head's."""
    found = products(text)
    assert {said for _, _, said in found} == {(STABLEHLO[asked.products],) * 2}
    assert sum(count for (name, _, _), count in found.items() if name == "convolution") >= least
    types = {types for _, types, _ in found}
    both = {("f32", "f32"), ("bf16", "bf16")}
    assert types == both if asked.activations == "bfloat16" else types == {("f32", "f32")}


# What is lowered late is most of a step: depthwise, 1x1 and dense convolutions, and their transposes.
@pytest.mark.parametrize("asked", PRECISIONS.values(), ids=PRECISIONS)
def test_a_search_is_lowered_as_asked(asked, tmp_path, lowered):
    """In exact second order too, and what is measured between epochs."""
    strategy = row(9, hypergradient=unrolled if asked == TF32 else first_order())
    watch = Watch(
        lambda search: (
            lambda state, batches: {"loss": search.problem(state).outer(*state.bilevel[1:3], batches.valid)[0]}
        )
    )
    found = search_in(tmp_path / "a", strategy, precision=asked, watch=watch)
    check(found["cpu"], asked, least=1)
    check(found["cuda"], asked, least=40)
    check(lowered[-1], asked, least=1)
    assert json.loads((tmp_path / "a" / "config.json").read_text())["precision"] == asked._asdict()


def test_a_retraining_is_lowered_as_asked(tmp_path, lowered):
    """Its step, and what measures held-out and test images."""
    asked, found, space = Precision("bfloat16", "tf32"), {}, darts_network(2, 3, 4, image=(8, 8, 1))
    options = {"out": tmp_path / "a", "placement": lowering(found), "console": Console(quiet=True)}
    with pytest.raises(Compiled):
        fit(FOUND, space, recipes.small(epochs=1, batch=4), DATA, jax.random.key(0), precision=asked, **options)
    check(found["cpu"], asked, least=1)
    check(found["cuda"], asked, least=30)
    tests = [text for text in lowered if products(text)]
    assert len(tests) == 2
    for text in tests:
        check(text, asked, least=1)
    assert json.loads((tmp_path / "a" / "config.json").read_text())["precision"] == asked._asdict()


def test_a_primitive_lowered_outside_has_jaxs_default():
    """Why a precision is in force around tracing and lowering."""
    said = set()
    with FLOAT32.in_force():
        traced = jax.jit(depthwise_convolution).trace(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2)))
        said |= set(products(traced.lower(lowering_platforms=("cuda",)).as_text()))
    said |= set(products(traced.lower(lowering_platforms=("cuda",)).as_text()))
    assert {both for *_, both in said} == {("HIGHEST", "HIGHEST"), ("DEFAULT", "DEFAULT")}


# ------------------------------------------------------------------------------------------- what stays float32


def types(tree):
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)}


def equations(jaxpr):
    """All equations, those inside others too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


def outputs(jaxpr, *endings):
    found = [e.outvars[0].aval for e in equations(jaxpr) if e.primitive.name.endswith(endings)]
    assert found
    return types(found)


@cache
def computed(asked: Precision) -> dict[str, set[str]]:
    """Float types of everything that the table of the documentation names."""
    seen = asked.cast(augment)
    search = bind(row(9, hypergradient=first_order()), SPACE, augment=seen)
    state = jax.eval_shape(search.init, jax.random.key(0))
    batches = Batches(*(Batch(x.image[:4], x.label[:4]) for x in DATA[:2]))
    after, metrics = jax.eval_shape(search.step, state, batches)
    pixels = jax.eval_shape(seen, jax.random.key(0), batches.train.image)
    with asked.in_force():
        grads = lambda s, b: one_pass(search.problem(s), INNER, s.bilevel.weights, s.bilevel.alpha, b.train)[1]
        weights, alpha = jax.eval_shape(grads, state, batches)
        net = supernet(SPACE, row(9).mixing)
        applied = jax.make_jaxpr(lambda w, x, gates: net.apply(w, x, gates, jax.random.key(0), jnp.int32(0)))
        inside = applied(state.bilevel.weights, pixels, jax.eval_shape(search.scores, state))
        trained = network(FOUND, darts_network(2, 3, 4, image=(8, 8, 1)))
        variables = jax.eval_shape(trained.init, jax.random.key(0))
        logits, _, running = jax.eval_shape(trained.train, variables, pixels)
        normed = jax.make_jaxpr(lambda x: BatchNorm().init_with_output(jax.random.key(0), x)[0])(pixels).jaxpr
    both = [state.bilevel, after.bilevel]
    return {
        "weights, and their gradients as optimizers get them": types([[s.weights for s in both], weights, variables]),
        "alpha and its gradient": types([[s.alpha for s in both], alpha]),
        "states of optimizers": types([(s.weights_opt, s.alpha_opt) for s in both]),
        "statistics of norms, of a batch and running": types(running) | outputs(normed, "moments", "rsqrt"),
        "logits": types([inside.out_avals, logits, jax.eval_shape(trained.apply, variables, pixels)]),
        "losses, accuracies, norms of gradients": types(metrics),
        "images behind the augmentation": types(pixels),
        "outputs of operations and cells": outputs(inside.jaxpr, "_convolve", "gate_scaled"),
    }


def test_the_table_says_what_stays_float32():
    lines = PAGE.read_text(encoding="utf-8").partition("## What stays float32")[2].partition("\n\n## ")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    (_, *heads), _, *rows = cells
    assert heads == ["tf32", "bfloat16"]
    for column, head in enumerate(heads, 1):
        found = computed(PRECISIONS[head])
        assert found == {line[0]: {line[column]} for line in rows}


# ------------------------------------------------------------------------------- what a run says, refuses, warns of


def test_a_run_goes_on_with_its_own_precision_only(tmp_path):
    """One from before this was recorded is float32."""
    here = tmp_path / "a"
    with pytest.raises(Compiled):
        start(here, precision=BFLOAT16)
    with pytest.raises(ValueError, match=r"precision was .*bfloat16.*, now .*tf32"):
        start(here, precision=TF32, resume=True)
    with pytest.raises(Compiled):
        start(here, precision=BFLOAT16, resume=True)
    config = json.loads((here / "config.json").read_text())
    del config["precision"]
    (here / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"precision was .*float32.*, now .*bfloat16"):
        start(here, precision=BFLOAT16, resume=True)
    with pytest.raises(Compiled):
        start(here, resume=True)


def test_runs_of_different_precision_are_not_compared():
    def outcome(name, **more):
        size = {
            "dataset": "digits",
            "seed": len(name),
            "fraction": 1.0,
            "network": {"channels": 2},
            "recipe": {"epochs": 1},
        }
        config = {"genotype": {"space": "darts", "name": name}, "label": name, **size, **more}
        return outcomes.outcome({"kind": "evaluation", "config": config, "test": {"accuracy": 0.5}}, name)

    old, new, short = outcome("a"), outcome("bb", precision=FLOAT32._asdict()), outcome("ccc", precision=TF32._asdict())
    assert compare([old, new]).terms["precision.products"] == "float32"
    with pytest.raises(ValueError, match=r'precision\.products is "float32" in a; "tf32" in ccc'):
        compare([old, short])


@pytest.mark.parametrize("asked", [TF32, BFLOAT16, Precision("float32", "bfloat16")], ids="-".join)
def test_finite_differences_warn_below_float32(asked, tmp_path):
    official, exact = row(9, hypergradient=finite_difference), row(9, hypergradient=unrolled)
    with pytest.warns(LowPrecision, match="finite difference .* Take exact second order"), pytest.raises(Compiled):
        start(tmp_path / "a", official, precision=asked)
    assert not doubt(FLOAT32, [official]) and not doubt(asked, [exact]) and doubt(asked, [exact, official])


def test_no_warning_in_float32(tmp_path):
    with warnings.catch_warnings(), pytest.raises(Compiled):
        warnings.simplefilter("error")
        start(tmp_path / "a", row(9, hypergradient=finite_difference))


def test_the_command_line_tells_and_hands_on(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(runner, "run", lambda *args, **options: given.append(options["precision"]))
    monkeypatch.setattr(retraining, "fit", lambda *args, **options: given.append(options["precision"]))
    call = lambda *args: CliRunner().invoke(app, [*args, "--smoke", "--out", str(tmp_path)], env={"COLUMNS": "300"})
    done = call("search", "--strategy", "darts-official", "--precision", "bfloat16")
    assert "activations in bfloat16" in done.output and "warning: the finite difference" in done.output, done.output
    assert "warning" not in call("search", "--precision", "tf32").output
    assert "warning" not in call("search", "--strategy", "darts-official").output
    call("search", "--matmul-precision", "bfloat16")
    done = call("evaluate", "DARTS_V2", "--precision", "bfloat16", "--matmul-precision", "tf32")
    assert "activations in bfloat16, products of float32 in tf32" in done.output
    assert given == [BFLOAT16, TF32, FLOAT32, Precision("float32", "bfloat16"), Precision("bfloat16", "tf32")]
    for option in ("--precision", "--matmul-precision"):
        done = call("search", option, "float16")
        assert done.exit_code == 1 and "float32, tf32, bfloat16" in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_is_refused(tmp_path):
    """Before anything is written: a precision that there is not, and images shorter than it."""
    short = lambda key, pixels: pixels.astype(jnp.bfloat16)
    for numbers, seen, told in (
        (Precision("float16", "float32"), augment, "'float16' is none of float32, bfloat16"),
        (Precision("float32", "highest"), augment, "'highest' is none of float32, tf32, bfloat16"),
        (FLOAT32, short, "augment gives bfloat16 images"),
    ):
        with pytest.raises(ValueError, match=told):
            start(tmp_path / "a", augment=seen, precision=numbers)
    assert not list(tmp_path.iterdir())
    pixels = jnp.ones((1, 2, 2, 1), jnp.uint8)
    assert BFLOAT16.cast(short)(jax.random.key(0), pixels).dtype == jnp.bfloat16
    assert precision.UNSAID == {"precision": {"activations": "float32", "products": "float32"}}


@pytest.mark.slow
def test_a_search_and_a_retraining_in_bfloat16(tmp_path):
    """They end, in files that say so, and on a page."""
    call = lambda *args: CliRunner().invoke(app, [*args, "--precision", "bfloat16", "--smoke", "--json"])
    size = ("--space", "nas_bench_201", "--channels", "2", "--depth", "1")
    one, two = str(tmp_path / "a"), str(tmp_path / "b")
    done = call("search", "--strategy", "darts-first-order", *size, "--out", one)
    assert done.exit_code == 0, done.output
    done = call("evaluate", one, "--channels", "2", "--depth", "1", "--out", two)
    assert done.exit_code == 0, done.output
    for here in (one, two):
        result = json.loads((Path(here) / "result.json").read_text())
        assert result["config"]["precision"] == BFLOAT16._asdict()
        assert "precision.activations" in (Path(here) / "report.html").read_text()
