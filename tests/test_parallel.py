"""One search on one, two and eight devices: equal numbers, equal bits on every device, and clear words otherwise."""

import json
import os
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import CACHE, python

from jaxnas import parallel
from jaxnas.bilevel import joint
from jaxnas.data import Batch, Split
from jaxnas.epoch import compile_epoch
from jaxnas.hypergradient import Batches, finite_difference, first_order, through, unrolled
from jaxnas.runner import QUICK
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
    state = jax.jit(search.init).lower(jax.random.key(0)).compile(compiler_options=QUICK)(jax.random.key(0))
    state = placement.spread(state)
    key = placement.spread(jax.random.key(1))
    state, sums, bad = program.run(state, data, key, np.int32(0), np.int32(program.steps))
    assert int(bad) == -1
    parallel.check_copies(state.bilevel, "the state")
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
    with pytest.raises(parallel.Disagreement, match=r"alpha on the devices \[1\] differs from alpha on device 0"):
        parallel.check_copies({"normal": torn}, "alpha")
    parallel.check_copies({"normal": jax.device_put(np.float32(1), whole)}, "alpha")


def test_a_batch_that_devices_cannot_share(tmp_path):
    with pytest.raises(ValueError, match="batch=12 cannot be dealt out to 8 devices: take 8 or 16 images"):
        parallel.mesh(jax.devices()[:8]).check_batch(12)
    assert parallel.mesh(jax.devices()[:8]).at_least(4) == 8


# ------------------------------------------------------------------------------------------ many processes

SEARCH = "-m jaxnas search --strategy darts-first-order --space s2 --channels 2 --depth 3 --batch 8 --fraction 0.022"


def started(out, port, epochs, *more):
    """Two processes of one search on the loopback interface."""
    told = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2", "XLA_FLAGS": ""}
    told |= {"JAX_COMPILATION_CACHE_DIR": CACHE, "COLUMNS": "200"}
    command = [sys.executable, *SEARCH.split(), "--distributed", "--epochs", str(epochs), "--out", str(out), *more]
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
    alone = python(*SEARCH.split(), "--devices", "one", "--epochs", 2, "--out", tmp_path / "one")
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
