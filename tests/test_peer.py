"""The step in PyTorch that ours is measured against computes what the official code computes, and what ours does."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent.parent))
pytest.importorskip("torch")

import torch
from parity_lines import FIXTURES, load, part

from benchmarks.build import build
from benchmarks.case import Case
from benchmarks.measure import first_state
from benchmarks.peer_network import MaxPool, Supernet, opaque_max_pool
from benchmarks.peer_run import contender, gradients_apart
from benchmarks.peer_torch import CELLS, Options, Passed, Peer, Rates
from benchmarks.peers import Wish, compare, reason_against

TINY = Case(channels=2, depth=3, batch=2, image=8)


@pytest.fixture(scope="module")
def start():
    return load(FIXTURES / "B_darts_c4_l3.npz")


@pytest.fixture(scope="module")
def official():
    return load(FIXTURES / "C_architect.npz")


def peer(start, order="first", **settings):
    made = Peer(Supernet(4, 3).double(), order, **settings)
    made.load(part(start, "w/"), part(start, "arch/alphas_"))
    return made


def with_momentum(made, official):
    for name, w in made.network.named_parameters():
        made.sgd.state[w]["momentum_buffer"] = torch.tensor(official[f"mom/{name}"])
    return made


def batch(made, z, prefix="", suffix=""):
    return made.batch(z[f"{prefix}x{suffix}"].transpose(0, 2, 3, 1), z[f"{prefix}y{suffix}"])


def assert_close(ours, theirs, tolerance=1e-9):
    """Largest difference over the largest reference value."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


@pytest.mark.parametrize("channels_last", [False, True])
def test_one_pass_equals_the_official_one(start, channels_last):
    made = peer(start, options=Options(channels_last=channels_last))
    found = made.one_pass(batch(made, start), weights=True, alpha=True)
    assert_close(found.logits, start["logits"])
    assert_close(found.loss, start["loss"])
    for cell, grad in zip(CELLS, found.alpha, strict=True):
        assert_close(grad, start[f"garch/alphas_{cell}"])
    grads = dict(zip(dict(made.network.named_parameters()), found.weights, strict=True))
    assert set(grads) == set(part(start, "g/"))
    for name, grad in part(start, "g/").items():
        assert_close(grads[name], grad)


@pytest.mark.parametrize(
    "order, which, buffers",
    [
        ("first", "first_order/arch_grad", True),
        ("second", "mom/fd_arch_grad", True),
        ("second", "nomom/fd_arch_grad", False),
    ],
)
def test_hypergradients_equal_the_official_ones(start, official, order, which, buffers):
    made = peer(start, order)
    made = with_momentum(made, official) if buffers else made
    before = [w.detach().clone() for w in made.weights]
    _, grads = made.hypergradient(batch(made, official, "train_", "/0"), batch(made, official, "valid_", "/0"))
    for cell, grad in zip(CELLS, grads, strict=True):
        assert_close(grad, official[f"{which}/{cell}"])
    assert all(torch.equal(a, b) for a, b in zip(before, made.weights, strict=True))


@pytest.mark.parametrize("run", ["iter_first_clip5", "iter_second_clip5", "iter_second_clip1"])
def test_iterations_equal_the_official_ones(start, official, run):
    made = peer(start, run.split("_")[1], rates=Rates(clip=float(run[-1])))
    with_momentum(made, official)
    weights = dict(made.network.named_parameters())
    for k in range(3):
        found = part(official, f"{run}/{k}/")
        losses = made.step(batch(made, official, "train_", f"/{k}"), batch(made, official, "valid_", f"/{k}"))
        assert_close(losses["train"], found["train_loss_before_step"])
        for cell, a in zip(CELLS, made.alpha, strict=True):
            assert_close(a.detach(), found[f"alphas_{cell}"])
        norms = [float(weights[name].detach().norm()) for name in official["param_names"]]
        assert_close(norms, found["weight_norms"])


def test_the_opaque_maximum_is_the_maximum():
    for stride in (1, 2):
        x = torch.randn(2, 3, 8, 8, requires_grad=True)
        y, (z, _) = MaxPool(stride)(x), opaque_max_pool(x, stride)
        ways = torch.randn(y.shape)
        grads = [torch.autograd.grad(out, x, ways)[0] for out in (y, z)]
        assert torch.equal(y, z) and torch.equal(*grads)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_shorter_numbers_give_nearly_the_same_losses(precision):
    exact, short = (contender(TINY, {"precision": p}, seeded())[0].losses for p in ("float32", precision))
    for half, loss in exact.items():
        assert short[half] == pytest.approx(loss, rel=0.05)


def seeded():
    """Weights and alpha that do not depend on what ran before."""
    torch.manual_seed(0)
    weights = {name: w.detach().numpy() for name, w in Supernet(TINY.channels, TINY.depth).named_parameters()}
    return weights, {cell: 1e-3 * torch.randn(14, 8).numpy() for cell in CELLS}


def test_wrong_compiled_gradients_are_refused():
    class Liar:
        options = Options(compiled="edges")

        def one_pass(self, batch, weights=False, alpha=False):
            return Passed(None, None, [torch.randn(4)], [torch.randn(4)])

    with pytest.raises(ArithmeticError, match="differ from the eager ones"):
        gradients_apart(Liar(), None, None)


@pytest.fixture
def precision_kept():
    before = jax.config.jax_default_matmul_precision
    yield
    jax.config.update("jax_default_matmul_precision", before)


def test_ours_and_the_peer_make_the_same_step(precision_kept):
    built = build(TINY)
    held = [first_state(built.search, jax.random.key(0))]
    step = jax.jit(built.search.step)

    def ours():
        held[0], metrics = step(held[0], built.batches)
        return jax.block_until_ready(metrics)

    seconds, peers = compare(TINY, built, held[0], ours, Wish(compiled="", layout="contiguous"), 2)
    assert len(seconds) == len(peers["eager"]["all_seconds"]) == 2
    assert all(apart < 1e-4 for apart in peers["eager"]["first_losses_differ_by"].values())
    assert peers["eager"]["ours_is_faster_by"] > 0


def test_what_has_no_peer_says_why():
    assert reason_against(TINY) is None
    assert "not darts on s2" in reason_against(Case(space="s2", strategy="darts"))
