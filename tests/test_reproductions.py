"""Every reproduction keeps its form, is traced at its true size, and runs.

Compiling is dear, so what is run on an ordinary day is: the promises of all files; each search that is like no other
one, traced (not compiled) at the paper's size, with the network of its answer; and two files from end to end, with
--smoke: a search that is looked up, from the command line too, and a training of random cells. `-m slow` runs all files
and variants, and traces them all.
"""

import json
import re
import sys
from collections.abc import Mapping
from inspect import signature
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import python
from rich.console import Console

sys.path.append(str(Path(__file__).parent.parent))

import jaxnas as jn
from experiments import table
from experiments.reproduction import divided, reproduce
from experiments.scale import SMOKE, noise
from jaxnas.data import Batch
from jaxnas.evaluation.random_search import random_genotype

ROOT = table.FOLDER.parent
HEADINGS = ("Paper", "Command", "Hardware", "Hours", "Expected", "Deviations")
FILES = {module.__name__.rpartition(".")[2]: module for module in table.reproductions()}
RUNS = [name for module in FILES.values() for name in table.variants(module)]
FIRST = {next(iter(table.variants(module))) for module in FILES.values()}
LIKE_OTHERS = {"cifar_100 darts", "darts_es darts", "fashion_mnist darts", "p_darts_imagenet", "r_darts_l2 darts"}
LIKE_OTHERS |= {"pc_gdas_p_darts"}  # run, smaller, by test_composition
NAMES = [pytest.param(name, marks=() if name in FIRST - LIKE_OTHERS else pytest.mark.slow) for name in RUNS]


def recipe(name, smoke=False):
    """The recipe of a file's variant; latencies are not measured."""
    stem, _, variant = name.partition(" ")
    module = FILES[stem]
    arguments = list(signature(module.recipe).parameters)
    if "costs" in arguments:
        return module.recipe(smoke, costs=unmeasured)
    return module.recipe(smoke, **({arguments[1]: variant} if variant else {}))


def unmeasured(space):
    return {cell: np.ones((1, len(space.edges), len(space.ops))) for cell in space.cells}


def sections(doc):
    found = re.findall(r"^(\w+): (.*?)(?=^\w+: |\Z)", doc, re.M | re.S)
    return {heading: " ".join(text.split()) for heading, text in found}


# ------------------------------------------------------------------------------------------------- promises


@pytest.mark.parametrize("stem", FILES)
def test_a_file_promises_what_it_must(stem):
    title, _, rest = FILES[stem].__doc__.partition("\n\n")
    promised = sections(rest)
    assert title.endswith(".") and tuple(promised) == HEADINGS
    assert f"python -m experiments.{stem} " in promised["Command"]
    assert re.search(r"arXiv:\d{4}\.\d{5}", promised["Paper"])


@pytest.mark.parametrize("stem", FILES)
def test_the_promise_has_the_numbers_of_the_record(stem):
    module = FILES[stem]
    promised = sections(module.__doc__.partition("\n\n")[2])
    found = module.EXPECTED.values() if isinstance(module.EXPECTED, Mapping) else [module.EXPECTED]
    for paper in found:
        told = [f"{paper.error:.2f}"] if paper.error else ["none"]
        told += [f"± {paper.deviation:.2f} %"] if paper.deviation else ["none"]
        told += [f"n = {paper.runs}"] if paper.runs else ["none"]
        told += [f"{paper.parameters} million"] if paper.parameters else ["none"]
        assert all(one in promised["Expected"] for one in told), told
        assert f"{paper.days} GPU-days" in promised["Hours"] or paper.days is None
    assert promised["Hours"].startswith("not measured")


# ------------------------------------------------------------------------------------------- at the true size


@pytest.mark.parametrize("name", NAMES)
def test_the_search_is_traced_at_the_papers_size(name):
    """All stages, cut by random scores; of a grid, whose rows differ in one number, the last."""
    it = recipe(name)
    stages = it.stages or tuple(jn.Stage(row, it.at.epochs) for row in list(it.grid.values())[-1:])
    space, scores, draw = it.space, None, np.random.default_rng(0)
    for stage in stages:
        space = stage.reshape(space, scores)
        search = jn.bind(stage.strategy, space)
        state = jax.eval_shape(search.init, jax.random.key(0))
        half = images(space, it.at.batch)
        after, metrics = jax.eval_shape(search.step, state, jn.Batches(half, half))
        assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state) and metrics["train"]["loss"].shape == ()
        shapes = jax.eval_shape(search.scores, state)
        scores = jax.tree.map(lambda leaf: draw.uniform(size=leaf.shape), shapes)
    decode = stages[-1].strategy.decode if stages else jn.decoding.top_edges()
    network = jn.network(
        random_genotype(jax.random.key(0), space, decode), it.network, auxiliary=it.training.auxiliary > 0
    )
    weights = jax.eval_shape(network.init, jax.random.key(0)).weights
    assert sum(leaf.size for leaf in jax.tree.leaves(weights)) > 1e5


def images(space, batch):
    return Batch(jax.ShapeDtypeStruct((batch, *space.image), "float32"), jax.ShapeDtypeStruct((batch,), "int32"))


# ---------------------------------------------------------------------------------------------------- smoke


def smoke(name, out, it=None, **options):
    return reproduce(it or recipe(name, smoke=True), name, out=out, console=Console(quiet=True), **options)


def check(told, name, out):
    assert told["experiment"] == name and told["smoke"] and told["devices"]["used"] == 1
    assert 0 <= told["measured"]["error"] <= 100 and told["measured"]["parameters"] > 0
    assert told["expected"] == recipe(name, smoke=True).expected._asdict()
    assert json.loads((out / "result.json").read_text()) == json.loads(json.dumps(told))


def test_a_search_whose_answer_is_looked_up(tmp_path):
    """And the command line, which finds all of it done, and refuses a folder in use."""
    path = tmp_path / "table.npz"
    ops = np.stack(np.meshgrid(*[np.arange(5)] * 6, indexing="ij"), -1).reshape(-1, 6).astype(np.int8)
    names = np.array(("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"))
    np.savez(path, ops=ops, op_names=names, cifar10_test_200=np.full(5**6, 90.0), cifar10_params_m=np.ones(5**6))
    name, out = "nas_bench_201 gdas", tmp_path / "run"
    it = FILES["nas_bench_201"].recipe(True, row="gdas", table=path)
    told = smoke(name, out, it)
    check(told, name, out)
    assert told["measured"]["error"] == pytest.approx(10) and told["measured"]["parameters"] == 1_000_000
    asked = ("-m", "experiments.nas_bench_201", "--row", "gdas", "--smoke", "--table", path, "--out", out)
    done = python(*asked, "--resume", cwd=ROOT)
    assert done.returncode == 0 and "nas_bench_201 gdas: 10.00 % test error" in done.stdout, done.stderr
    done = python(*asked, cwd=ROOT)
    assert done.returncode == 1 and "is in use" in done.stderr and "Traceback" not in done.stderr


def test_random_cells_are_picked_without_the_test_images(tmp_path):
    name, out = "random_search", tmp_path / "run"
    check(smoke(name, out), name, out)
    short = [json.loads((out / "validation" / str(i) / "result.json").read_text()) for i in range(2)]
    assert [record["config"]["images"] for record in short] == [{"train": 8, "valid": 0, "test": 8}] * 2
    last = json.loads((out / "retraining" / "result.json").read_text())["config"]
    assert last["images"] == {"train": 16, "valid": 0, "test": 8} and last["tests"] == "cifar10"
    best = max(short, key=lambda record: record["test"]["accuracy"])
    assert last["genotype"] == best["config"]["genotype"]


def test_images_that_do_not_fit_the_schedule_are_refused():
    it = recipe("darts_first_order")
    few = noise("cifar10", None, SMOKE.space(it.space), 0.5)
    with pytest.raises(ValueError, match="8 images of cifar10 in batches of 64 are 1 steps, the recipe counts 391"):
        divided(it, few, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RUNS if name != "random_search"])
def test_every_reproduction_runs(name, tmp_path):
    check(smoke(name, tmp_path / "run"), name, tmp_path / "run")
