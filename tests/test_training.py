"""Retraining: recipes, the step's formulas, exact tests, resuming, and the files that it leaves."""

import json
import shutil
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import python
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from rich.console import Console
from typer.testing import CliRunner

from jaxnas import checkpoint, folder, parallel, retraining
from jaxnas.cli import app
from jaxnas.data import Batch, Dataset, whole
from jaxnas.evaluation import export, recipes, training
from jaxnas.spaces.darts import darts_network
from jaxnas.spaces.genotype import read, to_json
from jaxnas.spaces.nas_bench_201 import nas_bench_201_network
from jaxnas.spaces.network import Network, Variables, network
from jaxnas.spaces.published import DARTS_V1

SKIPS = read("|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_1x1~2|")
SPACE = nas_bench_201_network(2, 1, 3, image=(4, 4, 1))
RECIPE = replace(recipes.small(epochs=3, batch=8), shift=1)
SETTINGS = {"label": "skips", "dataset": "bright", "seed": 0, "network": {"depth": 1}}  # depth: cells for each width
QUIET = Console(quiet=True)


def images(count, seed, noise=40):
    """Three classes of 4x4 pixels by their brightness."""
    draw = np.random.default_rng(seed)
    label = draw.integers(0, 3, count).astype(np.int32)
    pixels = 60 + 60 * label[:, None, None, None] + draw.integers(-noise, noise, (count, 4, 4, 1))
    return Batch(pixels.clip(0, 255).astype(np.uint8), label)


DATA = Dataset(name="bright", train=images(30, 0), test=images(21, 1), classes=3)


def dense(auxiliary=False):
    """A network of one linear map (two, with a second head), and a statistic that counts the passes."""
    init = lambda key: Variables(
        {"a": jax.random.normal(key, (16, 3)), "b": jnp.ones((16, 3))}, {"passes": jnp.zeros(())}
    )
    flat = lambda x: x.reshape(len(x), -1)

    def train(v, x, paths):
        x = flat(x) if paths is None else flat(x) * paths[0, 0][:, None]
        second = x @ v.weights["b"] if auxiliary else None
        return x @ v.weights["a"], second, {"passes": v.statistics["passes"] + 1}

    return Network(init, train, lambda v, x: flat(x) @ v.weights["a"], (1, 1))


def floats(batch=8):
    x = jax.random.normal(jax.random.key(5), (batch, 4, 4, 1))
    return Batch(x, jnp.arange(batch, dtype=jnp.int32) % 3)


# ------------------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize(
    "recipe, known",  # (epoch, rate): of the official codes; their formulas in double precision
    [
        (recipes.cifar(), {0: 0.025, 1: 0.024999828653092835, 300: 0.0125, 599: 1.7134690716e-07}),
        (recipes.imagenet(), {0: 0.1, 1: 0.097, 9: 0.07602310586545652}),
        (recipes.imagenet_linear(), {0: 0.1, 1: 0.19918367346938776, 4: 0.49183673469387756, 5: 0.4897959183673469}),
        (recipes.nas_bench_201(), {0: 0.1, 100: 0.05, 199: 6.1683721979e-06}),
    ],
    ids=lambda value: value.name if isinstance(value, recipes.Recipe) else "",
)
def test_rates(recipe, known):
    rate = recipes.rates(recipe)
    np.testing.assert_allclose([rate(np.int32(e)) for e in known], list(known.values()), rtol=2e-6, atol=1e-9)
    assert json.dumps(recipes.describe(recipe))


def test_drop_path_grows_to_its_rate():
    """Values of the official code for 600 epochs: 0.2 epoch / epochs."""
    found = [recipes.drop_rate(recipes.cifar(), np.int32(e)) for e in (0, 1, 300)]
    np.testing.assert_allclose(found, [0, 0.0003333333333333334, 0.1], rtol=1e-6)


def test_a_recipe_says_what_is_wrong_and_what_was_changed():
    with pytest.raises(ValueError, match=r"'small' has epochs=0"):
        recipes.small(epochs=0)
    with pytest.raises(ValueError, match=r"drop_path=1"):
        replace(recipes.cifar(), drop_path=1.0)
    assert recipes.changed(recipes.cifar(), {"epochs": None, "batch": 96}) == recipes.cifar()
    assert recipes.changed(recipes.cifar(), {"epochs": 5}).name == "cifar, changed"
    digits = replace(DATA, name="digits")
    assert recipes.fitted(recipes.cifar(), DATA).flip and not recipes.fitted(recipes.cifar(), digits).flip
    assert recipes.fitted(recipes.cifar(), DATA).cutout == 2


# ------------------------------------------------------------------------------------------------- formulas


def test_smoothed_cross_entropy():
    """-sum_k q_k log p_k, written out."""
    logits, labels = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]]), np.array([2, 0], np.int32)
    logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    q = 0.9 * np.eye(3)[labels] + 0.1 / 3
    found = training.cross_entropy(jnp.asarray(logits), jnp.asarray(labels), 0.1)
    np.testing.assert_allclose(found, -(q * logp).sum(1).mean(), rtol=1e-6)


def test_a_step_is_clipped_decayed_and_weighs_the_second_head():
    net, batch = dense(auxiliary=True), floats()
    recipe = replace(RECIPE, auxiliary=0.4, smoothing=0.1, clip=0.01, weight_decay=0.5)
    bound = training.bind(net, recipe, 2)
    state = bound.init(jax.random.key(0))
    after, metrics = jax.jit(bound.step)(state, batch)

    def loss(w):
        first, second, _ = net.train(Variables(w, {"passes": 0}), batch.image, None)
        return training.cross_entropy(first, batch.label, 0.1) + 0.4 * training.cross_entropy(second, batch.label, 0.1)

    w = state.variables.weights
    gradient = jax.grad(loss)(w)
    norm = np.sqrt(sum((g**2).sum() for g in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(metrics["train"]["loss"], loss(w), rtol=1e-6)
    np.testing.assert_allclose(metrics["train"]["grad_norm"], norm, rtol=1e-5)
    for name in w:
        step = 0.05 * (gradient[name] * 0.01 / (norm + 1e-6) + 0.5 * w[name])
        np.testing.assert_allclose(after.variables.weights[name], w[name] - step, rtol=1e-5)
    assert after.variables.statistics["passes"] == 1 and after.step == 1
    with pytest.raises(ValueError, match="build the network with auxiliary=True"):
        training.bind(dense(), recipe, 2).step(state, batch)


@pytest.mark.smoke
def test_two_devices_average_what_one_computes():
    net, batch = dense(), floats()
    one = training.bind(net, RECIPE, 2)
    state = one.init(jax.random.key(0))
    two = training.bind(net, RECIPE, 2, axis_name="data")
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    step = jax.shard_map(two.step, mesh=mesh, in_specs=(P(), P("data")), out_specs=(P(), P()), check_vma=False)
    want, got = jax.jit(one.step)(state, batch), jax.jit(step)(state, batch)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), want[0].variables, got[0].variables)
    np.testing.assert_allclose(want[1]["train"]["loss"], got[1]["train"]["loss"], rtol=1e-6)


@pytest.mark.parametrize("batch", [4, 7, 21])
def test_the_test_counts_every_image_once(batch):
    """A linear map whose right answers are known; 21 images in batches of 4 leave 3 places to fill."""
    data = jax.device_put(DATA.test)
    weights = jnp.stack([jnp.ones(16) * k for k in (-1.0, 0.0, 1.0)], 1)  # logits by brightness: dark 0, bright 2
    variables = Variables({"a": weights, "b": weights}, {"passes": jnp.zeros(())})
    prepare = lambda key, x: x.astype(jnp.float32) / 100 - 1.2
    logits = np.asarray(prepare(None, data.image)).reshape(21, 16) @ np.asarray(weights)
    logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    found = training.compile_test(dense(), prepare, data, batch)(variables)
    assert found["accuracy"] == (logits.argmax(1) == DATA.test.label).sum() / 21 and 0.3 < found["accuracy"] < 1
    np.testing.assert_allclose(found["loss"], -logp[range(21), DATA.test.label].mean(), rtol=1e-5)


# ------------------------------------------------------------------------------------------------- the loop


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    fit = partial(retraining.fit, SKIPS, SPACE, RECIPE, DATA, jax.random.key(0), settings=SETTINGS, console=QUIET)
    return fit(out=out), fit


def test_what_a_retraining_leaves(run):
    trained, _ = run
    result = json.loads((trained.folder / "result.json").read_text())
    config = result["config"]
    assert result["kind"] == "evaluation" and result["test"] == trained.test and result["search"] is None
    assert config["images"] == {"train": 30, "valid": 0, "test": 21} and config["split"] == whole(DATA).digest
    assert config["genotype"] == json.loads(to_json(SKIPS)) and config["label"] == "skips" and config["fraction"] == 1
    assert config["network"]["classes"] == 3 and config["recipe"]["decay"] == {"kind": "cosine"}
    assert result["cost"]["parameters"] > 0 and result["seconds"]["total"] > 0 and result["valid"] is None
    lines = (trained.folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [4, 8, 12]  # 30 images in batches of 8
    names = {path.name for path in trained.folder.iterdir()}
    assert {"config.json", "checkpoints", "weights.npz", "genotype.json", "cells.png", "curves.png"} <= names


@pytest.mark.parametrize("make", [parallel.mesh, pytest.param(parallel.pmapped, marks=pytest.mark.slow)])
def test_two_devices_train_what_one_does_and_one_goes_on(make, run, tmp_path):
    """30 images on two devices; pmap normalises by halves of batches, which is another training."""
    trained, fit = run
    two = fit(out=tmp_path / "two", placement=make(jax.devices()[:2]))
    told = json.loads((two.folder / "result.json").read_text())["devices"]
    assert (told["used"], told["placement"]) == (2, make(jax.devices()[:2]).name)
    near = 1e-3 if make is parallel.mesh else 0.3
    for a, b in zip(trained.records, two.records, strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=near) and a["step"] == b["step"]
    assert two.test["loss"] == pytest.approx(trained.test["loss"], rel=near)
    shutil.copytree(two.folder, tmp_path / "one")
    folder.rewind(tmp_path / "one", 2)
    shutil.rmtree(tmp_path / "one" / "checkpoints" / "3")
    again = fit(out=tmp_path / "one", resume=True)
    assert again.records[:2] == two.records[:2]
    assert again.test["loss"] == pytest.approx(two.test["loss"], rel=near)


def test_a_killed_retraining_goes_on_bit_for_bit(run, tmp_path, monkeypatch):
    trained, fit = run
    save = checkpoint.save

    def killed(folder, epoch, *rest, **options):
        if epoch == 2:
            raise KeyboardInterrupt  # behind the record of epoch 2, before its state
        save(folder, epoch, *rest, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "save", killed)
        fit(out=tmp_path / "run")
    again = fit(out=tmp_path / "run", resume=True)
    jax.tree.map(np.testing.assert_array_equal, again.variables, trained.variables)
    assert again.test == trained.test
    assert [r["train_loss"] for r in again.records] == [r["train_loss"] for r in trained.records]
    before = (tmp_path / "run" / "result.json").read_text()
    assert fit(out=tmp_path / "run", resume=True).test == trained.test  # over: nothing is trained, nothing rewritten
    assert (tmp_path / "run" / "result.json").read_text() == before
    shutil.move(tmp_path / "run" / "checkpoints", tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="no state is left"):
        fit(out=tmp_path / "run", resume=True)
    shutil.move(tmp_path / "elsewhere", tmp_path / "run" / "checkpoints")
    with folder.held(tmp_path / "run"), pytest.raises(BlockingIOError, match="another process is writing"):
        fit(out=tmp_path / "run", resume=True)
    with pytest.raises(ValueError, match="seed was 0, now 1"):
        fit(
            out=tmp_path / "run",
            resume=True,
            settings={**SETTINGS, "seed": 1},
        )
    with pytest.raises(FileExistsError, match="in use"):
        fit(out=tmp_path / "run")


def test_wrong_data_are_refused_before_anything_is_written(tmp_path):
    fit = partial(retraining.fit, SKIPS, recipe=RECIPE, key=jax.random.key(0), out=tmp_path / "run", console=QUIET)
    with pytest.raises(ValueError, match=r"train images are \(4, 4, 1\), the space is built for \(8, 8, 1\)"):
        fit(nas_bench_201_network(2, 1, 3, image=(8, 8, 1)), data=DATA)
    with pytest.raises(ValueError, match="labels go from 0 to 2, the space has 2 classes"):
        fit(nas_bench_201_network(2, 1, 2, image=(4, 4, 1)), data=DATA)
    with pytest.raises(ValueError, match="auxiliary"):
        fit(SPACE, recipe=replace(RECIPE, auxiliary=0.4), data=DATA)
    assert not (tmp_path / "run").exists()


# --------------------------------------------------------------------------------------- the command line

ALONE = """
import sys, numpy, jax
from jax import export
network = export.deserialize(bytearray(open("network.stablehlo", "rb").read()))
logits = network.call(dict(numpy.load("weights.npz")), numpy.load(sys.argv[1]))
assert not any(name.split(".")[0] in ("jaxnas", "flax") for name in sys.modules)
numpy.save(sys.argv[2], logits)
sys.modules["jaxnas"] = None  # an import of it fails
from network import Network, load
numpy.testing.assert_allclose(Network().apply(load(), numpy.load(sys.argv[1])), logits, rtol=1e-5, atol=1e-6)
"""


def jaxnas(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200"})


def test_the_command_line_trains_the_same(run, tmp_path):
    """The images of the fixture from a file, the same sizes: the same numbers; and what the search had to tell."""
    trained, _ = run
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "genotype.json").write_text(to_json(SKIPS))
    told = {"config": {"strategy": "darts", "seed": 7}, "seconds": {"total": 9.0}, "devices": {"kind": "cpu"}}
    (tmp_path / "found" / "result.json").write_text(json.dumps(told))
    arrays = {"image": DATA.train.image, "label": DATA.train.label}
    np.savez(tmp_path / "bright.npz", test_image=DATA.test.image, test_label=DATA.test.label, **arrays)
    sizes = ("--epochs", 3, "--batch", 8, "--channels", 2, "--depth", 1)
    data = ("--dataset", "bright.npz", "--data-dir", tmp_path)
    watched = ("--tensorboard", tmp_path / "logs") if find_spec("tensorboardX") else ()
    done = jaxnas("evaluate", tmp_path / "found", *sizes, *data, *watched, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert not watched or [path.stat().st_size > 100 for path in (tmp_path / "logs").iterdir()] == [True]
    assert "30 images train, 21 test" in done.output and "measured once" in done.output
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["test"] == trained.test and result["config"]["label"] == "darts"
    assert result["search"] == {"strategy": "darts", "seed": 7, "seconds": 9.0, "devices": {"kind": "cpu"}}
    assert result["config"]["source"] == str(tmp_path / "found") and result["config"]["recipe"]["epochs"] == 3
    wrong = jaxnas("evaluate", "DARTS_V2", "--recipe", "cifra")
    assert wrong.exit_code and "no recipe is called 'cifra'" in str(wrong.exception)


@pytest.mark.smoke
def test_an_exported_network_runs_alone(run, tmp_path):
    """A Python that imports jax and numpy only gives the logits of the network here, and so does the file of flax."""
    pytest.importorskip("flatbuffers", reason="jax.export serialises with it")
    trained, _ = run
    refused = jaxnas("export", tmp_path, "--out", tmp_path / "files")
    assert refused.exit_code and "train the genotype first" in str(refused.exception)
    done = jaxnas("export", trained.folder, "--out", tmp_path / "files", "--flax")
    assert done.exit_code == 0, done.output
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1)).astype(np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    (tmp_path / "files" / "alone.py").write_text(ALONE)
    done = python("alone.py", tmp_path / "pixels.npy", tmp_path / "logits.npy", cwd=tmp_path / "files")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "files" / "metadata.json").read_text())["normalisation"]
    images = (jnp.asarray(pixels, jnp.float32) - told["mean"][0]) / told["deviation"][0]
    net = network(SKIPS, SPACE)
    want = jax.jit(net.apply)(trained.variables, images)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), want, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="arrays of another network"):
        export.unflatten({}, net)


def test_onnx_gives_the_same_logits():
    """With depthwise convolutions, which are primitives of our own, in a scanned row of cells, and five images."""
    pytest.importorskip("jax2onnx", reason="pip install 'jaxnas[onnx]'")
    runtime = pytest.importorskip("onnxruntime")
    net = network(DARTS_V1, darts_network(2, 4, 3, image=(8, 8, 1)))
    variables = jax.jit(net.init)(jax.random.key(0))
    prepare = lambda key, x: x.astype(jnp.float32) / 100 - 1
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        model = export.onnx(net, prepare, export.flatten(variables), (8, 8, 1))
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1)).astype(np.float32)
    want = jax.jit(net.apply)(variables, prepare(None, jnp.asarray(images)))
    np.testing.assert_allclose(session.run(None, {"images": images})[0], want, rtol=1e-4, atol=1e-6)
