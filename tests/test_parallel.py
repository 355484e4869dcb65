"""One search on one, two and eight devices: equal numbers, equal bits on every device, and clear words otherwise."""

import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tensorflow_datasets as tfds
from conftest import CACHE, python
from PIL import Image

from jaxnas import checkpoint, parallel
from jaxnas.agreement import Disagreement, check_copies
from jaxnas.bilevel import joint
from jaxnas.data import Batch, Split, load
from jaxnas.epoch import compile_epoch, compile_init
from jaxnas.hypergradient import Batches, finite_difference, first_order, through, unrolled
from jaxnas.search import bind
from jaxnas.spaces.darts import s2
from jaxnas.spaces.depthwise import depthwise_convolution
from jaxnas.spaces.networks import Model
from jaxnas.spaces.norm import standardize
from jaxnas.strategies.algorithms import darts
from jaxnas.strategies.draws import concrete
from jaxnas.strategies.relaxation import softmax

SPACE = s2(channels=2, layers=3, image=(8, 8, 3))
SGD = optax.sgd(0.1)
LOOK = through(SGD)
SOLVERS = {
    "first": darts(9, hypergradient=first_order()).solver,
    "exact": darts(9, hypergradient=unrolled(LOOK)).solver,
    "difference": darts(9, hypergradient=finite_difference(LOOK)).solver,
    "joint": joint(SGD, optax.sgd(0.1)),
}
GATES = {"soft": softmax(), "sampled": concrete(lambda step: 1.0)}


def images(seed, count):
    draw = np.random.default_rng(seed)
    return Batch(draw.integers(0, 255, (count, 8, 8, 3)).astype(np.uint8), draw.integers(0, 10, count).astype(np.int32))


DATA = Split(images(0, 21), images(1, 19), images(2, 4), "digest")  # neither 2 nor 8 divides 21 or 19
SIZES = (21, 19)


def small(normed):
    """A network that compiles at once: depthwise convolution, norm, and a mixture of classifiers by the gates."""

    def model(space, mixing):
        del mixing

        def init(key):
            kernel, head = jax.random.split(key)
            shape = (len(space.ops), 3, space.classes)
            return {"kernel": jax.random.normal(kernel, (3, 3, 3)), "head": jax.random.normal(head, shape)}

        def apply(weights, images, gates, key, step):
            x = depthwise_convolution(images, weights["kernel"])
            x = standardize(x, jnp.ones(3, x.dtype)) if normed else x
            mixed = sum((g.ops * g.edges[:, None]).sum(0) for g in gates.values())
            return jnp.einsum("o,bc,ock->bk", mixed, jnp.tanh(x).mean((1, 2)), weights["head"])

        return Model(init, apply, lambda *args: [])

    return model


def scaled(key, pixels):
    del key
    return pixels.astype(jnp.result_type(float)) / 100


def noisy(key, pixels):
    return scaled(key, pixels) + 0.1 * jax.random.normal(key, pixels.shape)


def ended(make, count, solver, gates, normed, augment):
    """Alpha and the metrics after an epoch of three steps."""
    placement = make(jax.devices()[:count])
    strategy = darts(9).replace(solver=SOLVERS[solver], relaxation=GATES[gates])
    search = bind(strategy, SPACE, model=small(normed), augment=augment, axis_name=placement.axis_name)
    whole = jnp.result_type(int)  # int64 in float64
    data = Batches(*(placement.images(half._replace(label=half.label.astype(whole))) for half in DATA[:2]))
    program = compile_epoch(search, data, 8, placement, SIZES)
    state = compile_init(search.init, jax.random.key(0))(jax.random.key(0))
    state = placement.spread(state)
    key = placement.spread(jax.random.key(1))
    state, sums, bad = program.run(state, data, key, np.int32(0), np.int32(program.steps))
    assert int(bad) == -1
    check_copies(state.bilevel, "the state")
    bilevel = placement.single(state).bilevel
    return jax.device_get((bilevel.alpha, bilevel.weights, sums))


def equal(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10), one, other)


FAST = [("first", "soft"), ("exact", "sampled"), ("difference", "soft"), ("joint", "sampled")]
REST = [(solver, gates) for solver in SOLVERS for gates in GATES if (solver, gates) not in FAST]


def check_mesh(solver, gates, counts):
    one = ended(parallel.mesh, 1, solver, gates, True, noisy)
    for count in counts:
        equal(one, ended(parallel.mesh, count, solver, gates, True, noisy))
    assert np.abs(one[0]["normal"]).max() > 1e-4  # alpha moved


@pytest.mark.parametrize("solver, gates", FAST)
def test_a_mesh_gives_the_numbers_of_one_device(solver, gates, x64):
    """Statistics of whole batches and the pixel noise of one device: the same search."""
    check_mesh(solver, gates, (2, 8) if solver == "exact" else (8,))


@pytest.mark.slow
@pytest.mark.parametrize("solver, gates", FAST + REST)
def test_a_mesh_of_two_or_eight(solver, gates, x64):
    """The whole product of the test above."""
    check_mesh(solver, gates, (2, 8))


def check_averages(solver, gates, makes):
    one = ended(parallel.mesh, 1, solver, gates, False, scaled)
    for make, count in makes:
        other = ended(make, count, solver, gates, False, scaled)
        equal(one[:2], other[:2])


@pytest.mark.smoke
def test_averages_over_devices_give_the_numbers_of_one_device(x64):
    """Without a norm, means of the parts' gradients are those of the batch."""
    check_averages("exact", "sampled", [(parallel.mesh_local, 2), (parallel.pmapped, 8)])


@pytest.mark.slow
@pytest.mark.parametrize("solver, gates", FAST + REST)
def test_averages_over_two_or_eight_devices(solver, gates, x64):
    """The whole product of the test above."""
    check_averages(solver, gates, [(make, n) for make in (parallel.mesh_local, parallel.pmapped) for n in (2, 8)])


def test_copies_that_differ_are_named():
    """One bit on one device."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("data",))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    parts = [jax.device_put(np.float32(x), device) for x, device in zip((1, 1 + 2**-23), jax.devices(), strict=False)]
    torn = jax.make_array_from_single_device_arrays((), whole, parts)
    with pytest.raises(Disagreement, match=r"alpha on the devices \[1\] differs from alpha on device 0"):
        check_copies({"normal": torn}, "alpha")
    check_copies({"normal": jax.device_put(np.float32(1), whole)}, "alpha")


def test_a_batch_that_devices_cannot_share(tmp_path):
    with pytest.raises(ValueError, match="batch=12 cannot be dealt out to 8 devices: take 8 or 16 images"):
        parallel.mesh(jax.devices()[:8]).check_batch(12)
    assert parallel.mesh(jax.devices()[:8]).at_least(4) == 8


# ------------------------------------------------------------------------------------------ many processes

PROGRAM = ("-m", "jaxnas")
SEARCH = "search --strategy darts-first-order --space s2 --channels 2 --depth 3 --batch 8 --fraction 0.022"


def started(out, port, epochs, *more, program=PROGRAM):
    """Two processes of one search on the loopback interface."""
    told = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2", "XLA_FLAGS": ""}
    told |= {"JAX_COMPILATION_CACHE_DIR": CACHE, "COLUMNS": "200"}
    here = ("--distributed", "--epochs", str(epochs), "--out", str(out))
    command = [sys.executable, *program, *SEARCH.split(), *here, *more]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    ids = ({"JAX_PROCESS_ID": str(number)} for number in range(2))
    return [subprocess.Popen(command, env={**os.environ, **told, **own}, **options) for own in ids]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def epochs_in(out):
    path = out / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.slow
def test_two_processes_are_one_search_and_one_that_is_killed_ends_both(tmp_path):
    """The numbers of one process; a clear message within a minute; the run goes on."""
    out = tmp_path / "two"
    first, second = started(out, free_port(), 1000)
    while len(epochs_in(out)) < 2 and first.poll() is None and second.poll() is None:
        time.sleep(0.1)
    second.kill()
    began = time.monotonic()
    _, told = first.communicate(timeout=180)
    second.communicate()
    assert first.returncode == 1 and time.monotonic() - began < 90, told
    assert "another process of this search ended" in told and "--resume" in told and "Traceback" not in told
    left = len(epochs_in(out))
    assert left >= 2

    pair = started(tmp_path / "short", free_port(), 2)
    assert [(one.communicate(timeout=300), one.returncode)[1] for one in pair] == [0, 0]
    alone = python(*PROGRAM, *SEARCH.split(), "--devices", "one", "--epochs", 2, "--out", tmp_path / "one")
    assert alone.returncode == 0, alone.stderr
    for a, b in zip(epochs_in(tmp_path / "one"), epochs_in(tmp_path / "short"), strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-3) and a["genotype"] == b["genotype"]

    again = started(out, free_port(), 1000, "--resume")
    while len(epochs_in(out)) < left + 2 and all(one.poll() is None for one in again):
        time.sleep(0.1)
    grown = epochs_in(out)
    for one in again:
        one.kill()
        one.communicate()
    assert [record["epoch"] for record in grown] == list(range(1, len(grown) + 1)) and len(grown) > left


TOLD = f"""
import sys
sys.path.append({str(Path(__file__).parent)!r})
from test_product import toy
from jaxnas import folder, runner
from jaxnas.cli import main
from jaxnas.datasets import prepared
decode = prepared._decode
def told(where, records, rows, first):
    print("decoded", *rows, file=sys.stderr)
    return decode(where, records, rows, first)
prepared._decode, folder.draw = told, lambda *_: []
runner.supernet = lambda space, mixing, layout: toy(space, mixing)
main()
"""  # a search with the toy network, which tells the rows that it decodes


def prepared_set(folder):
    """A TFDS set of 32 images and 6 for the test, and the same images as `tiny.npz` beside it."""

    class Tiny(tfds.core.GeneratorBasedBuilder):
        VERSION, pkg_dir_path = tfds.core.Version("1.0.0"), None

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(8, 8, 3)),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, downloads):
            return {"train": self._generate_examples(images(3, 32)), "test": self._generate_examples(images(4, 6))}

        def _generate_examples(self, part):
            for row, (pixels, label) in enumerate(zip(*part, strict=True)):
                file = io.BytesIO()
                Image.fromarray(pixels).save(file, "PNG")
                file.seek(0)
                yield row, {"image": file, "label": int(label)}

    with tfds.core.registered.skip_registration():
        Tiny(data_dir=folder).download_and_prepare(file_format="array_record")
    train, test = load("tiny", folder).train, load("tiny", folder).test
    arrays = {"image": train.image, "label": train.label, "test_image": test.image, "test_label": test.label}
    np.savez(folder / "tiny.npz", **arrays)


@pytest.mark.slow
def test_each_process_decodes_its_own_images(tmp_path):
    """The search is that of two processes which read them all, to the last bit, and so is the split on record."""
    prepared_set(tmp_path)
    clocks, found = ("seconds", "images_per_second"), {}
    for name in ("tiny", "tiny.npz"):
        more = ("--dataset", name, "--data-dir", tmp_path, "--fraction", "1")
        pair = started(tmp_path / f"run-{name}", free_port(), 2, *map(str, more), program=("-c", TOLD))
        told = [one.communicate(timeout=300)[1] for one in pair]
        assert [one.returncode for one in pair] == [0, 0], told
        rows = [[int(row) for line in re.findall(r"decoded (.*)", text) for row in line.split()] for text in told]
        each = sorted([*range(32), *range(6)])  # the images of the halves, and of the test
        assert sorted(rows[0] + rows[1]) == (each if name == "tiny" else [])
        assert len(rows[0]) == len(rows[1])
        out = tmp_path / f"run-{name}"
        records = [{k: v for k, v in record.items() if k not in clocks} for record in epochs_in(out)]
        config = json.loads((out / "config.json").read_text())
        assert config.pop("dataset") == config.pop("options")["dataset"] == name
        found[name] = records, config, jax.tree.leaves(checkpoint.read(out / "checkpoints", 2))
    assert len(found["tiny"][0]) == 2 and found["tiny"][:2] == found["tiny.npz"][:2]
    assert all(map(np.array_equal, *(states for *_, states in found.values())))
