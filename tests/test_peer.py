"""The PyTorch step that we are measured against is the official one: its numbers, from the official weights."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: no peer to check")

from benchmarks.peer_network import Supernet  # noqa: E402
from benchmarks.peer_torch import CELLS, Options, Peer, Rates  # noqa: E402

FIXTURES = Path(__file__).parent / "fixtures"
TOLERANCE = 1e-9


@pytest.fixture(scope="module")
def start():
    return dict(np.load(FIXTURES / "B_darts_c4_l3.npz"))


@pytest.fixture(scope="module")
def architect():
    return dict(np.load(FIXTURES / "C_architect.npz"))


def peer_at(start, order="first", options=Options(), rates=Rates()):  # noqa: B008
    """A peer in float64 with the official weights and alpha."""
    meta = json.loads(str(start["__meta__"]))
    peer = Peer(Supernet(meta["C"], meta["layers"], meta["classes"]).double(), order, options, rates)
    weights = {key.removeprefix("w/"): value for key, value in start.items() if key.startswith("w/")}
    peer.load(weights, {cell: start[f"arch/alphas_{cell}"] for cell in CELLS})
    return peer


def close(found, expected):
    found, expected = np.asarray(found.detach()), np.asarray(expected)
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("channels_last", [False, True])
def test_one_pass_is_the_official_one(start, channels_last):
    peer = peer_at(start, options=Options(channels_last=channels_last))
    batch = peer.batch(start["x"].transpose(0, 2, 3, 1), start["y"])
    passed = peer.one_pass(batch, weights=True, alpha=True)
    close(passed.loss, start["loss"])
    close(passed.logits, start["logits"])
    for cell, found in zip(CELLS, passed.alpha, strict=True):
        close(found, start[f"garch/alphas_{cell}"])
    names = [name for name, _ in peer.network.named_parameters()]
    assert sorted(f"gnorm/{name}" for name in names) == sorted(key for key in start if key.startswith("gnorm/"))
    norms = torch.stack([torch.linalg.norm(grad) for grad in passed.weights])
    close(norms, [start[f"gnorm/{name}"] for name in names])


@pytest.mark.parametrize("order, theirs", [("first", "first_order/arch_grad"), ("second", "nomom/fd_arch_grad")])
def test_the_hypergradient_is_the_official_one(start, architect, order, theirs):
    meta = json.loads(str(architect["__meta__"]))
    rates = Rates(weights=meta["eta"], momentum=meta["momentum"], decay=meta["weight_decay"], radius=meta["r"])
    peer = peer_at(start, order, rates=rates)
    half = lambda name: peer.batch(architect[f"{name}_x/0"].transpose(0, 2, 3, 1), architect[f"{name}_y/0"])
    _, grads = peer.hypergradient(half("train"), half("valid"))
    for cell, found in zip(CELLS, grads, strict=True):
        wanted = architect[f"{theirs}/{cell}"]
        assert np.abs(found.detach().numpy() - wanted).max() <= 1e-7 * np.abs(wanted).max()


def test_a_step_moves_everything(start):
    peer = peer_at(start)
    batch = peer.batch(start["x"].transpose(0, 2, 3, 1), start["y"])
    before = [t.detach().clone() for t in (*peer.weights, *peer.alpha)]
    losses = [float(peer.step(batch, batch)["train"]) for _ in range(3)]
    assert losses[2] < losses[0]
    assert all((old != new).any() for old, new in zip(before, (*peer.weights, *peer.alpha), strict=True))
