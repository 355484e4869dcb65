"""The official search step of DARTS in plain PyTorch, as fast as it honestly gets.

    alpha    one Adam step on the validation loss: first order, or the official central difference for second order
    weights  one SGD step on the training loss at the new alpha

Each pass computes the gradients that are used and no others, weights are moved in place by multi-tensor kernels, and
nothing waits for the device. Needs PyTorch.

Reference: Liu, Simonyan, Yang 2019, arXiv:1806.09055, algorithm 1; quark0/darts `cnn/architect.py`,
`cnn/train_search.py`.
"""

import contextlib
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.peer_network import EDGES, OPERATIONS, Edge, Supernet

Order = Literal["first", "second"]
Batch = tuple[Tensor, Tensor]  # images [B, 3, H, W], labels [B]
CELLS = ("normal", "reduce")


class Rates(NamedTuple):
    """Numbers of both optimizers; the official ones."""

    weights: float = 0.025
    momentum: float = 0.9
    decay: float = 3e-4
    clip: float = 5.0
    alpha: float = 3e-4
    alpha_betas: tuple[float, float] = (0.5, 0.999)
    alpha_decay: float = 1e-3
    radius: float = 1e-2  # of the central difference, in units of 1 / |v|


OFFICIAL = Rates()


class Options(NamedTuple):
    """How the same numbers are computed."""

    device: str = "cpu"
    channels_last: bool = False
    compiled: Literal["", "network", "edges"] = ""  # what torch.compile gets: nothing, everything, or each edge
    mode: str = "default"  # of torch.compile
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"


EAGER = Options()


class Passed(NamedTuple):
    """What one pass found; lists are empty where nothing was asked for."""

    loss: Tensor
    logits: Tensor
    weights: list[Tensor]
    alpha: list[Tensor]


class Peer:
    """A network, its alpha and both optimizers; `step` moves them in place."""

    def __init__(self, network: Supernet, order: Order, options: Options = EAGER, rates: Rates = OFFICIAL):
        set_precision(options)
        self.order, self.options, self.rates = order, options, rates
        self.network = network.to(options.device)
        if options.channels_last:  # an overload that torch's stubs leave out
            self.network.to(memory_format=torch.channels_last)
        self.weights: list[Tensor] = list(network.parameters())
        self.alpha = [1e-3 * torch.randn(EDGES, len(OPERATIONS)) for _ in CELLS]
        self.alpha = [a.to(self.weights[0]).requires_grad_() for a in self.alpha]
        self.sgd = torch.optim.SGD(self.weights, rates.weights, rates.momentum, weight_decay=rates.decay, foreach=True)
        self.adam = torch.optim.Adam(
            self.alpha, rates.alpha, rates.alpha_betas, weight_decay=rates.alpha_decay, foreach=True
        )
        compile_parts(network, options)

    def batch(self, images: np.ndarray, labels: np.ndarray) -> Batch:
        """Images [B, H, W, 3] and labels as this peer wants them."""
        layout = torch.channels_last if self.options.channels_last else torch.contiguous_format
        x = torch.as_tensor(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        y = torch.as_tensor(np.asarray(labels, np.int64))
        return x.to(self.weights[0]).contiguous(memory_format=layout), y.to(self.options.device)

    def step(self, train: Batch, valid: Batch) -> dict[str, Tensor]:
        """One search step: alpha, then the weights; losses stay on the device."""
        valid_loss, grads = self.hypergradient(train, valid)
        follow(self.adam, self.alpha, grads)
        passed = self.one_pass(train, weights=True)
        for p, g in zip(self.weights, passed.weights, strict=True):
            p.grad = g
        nn.utils.clip_grad_norm_(self.weights, self.rates.clip, foreach=True)
        follow(self.sgd, self.weights)
        return {"train": passed.loss, "valid": valid_loss}

    def hypergradient(self, train: Batch, valid: Batch) -> tuple[Tensor, list[Tensor]]:
        """Validation loss and the gradient of alpha."""
        if self.order == "first":
            passed = self.one_pass(valid, alpha=True)
            return passed.loss, passed.alpha
        start = [w.detach().clone() for w in self.weights]
        self._look_ahead(self.one_pass(train, weights=True).weights)
        there = self.one_pass(valid, weights=True, alpha=True)
        self._move_to(start)
        difference = self._difference(train, there.weights)
        self._move_to(start)
        indirect = torch._foreach_mul(difference, -self.rates.weights)
        return there.loss, list(torch._foreach_add(there.alpha, indirect))

    def one_pass(self, batch: Batch, *, weights: bool = False, alpha: bool = False) -> Passed:
        """Loss on a batch and its gradients in the weights, in alpha, or in both."""
        for w in self.weights:
            w.requires_grad_(weights)
        if self.options.mode == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        given = self.alpha if alpha else [a.detach() for a in self.alpha]
        with automatic(self.options):
            logits = self.network(batch[0], *(F.softmax(a, -1) for a in given))
            loss = F.cross_entropy(logits.float() if logits.dtype == torch.bfloat16 else logits, batch[1])
        wanted = (self.weights if weights else []) + (given if alpha else [])
        found = self._kept(torch.autograd.grad(loss, wanted))
        count = len(self.weights) if weights else 0
        return Passed(loss.detach().clone(), logits.detach(), found[:count], found[count:])

    def _kept(self, grads) -> list[Tensor]:
        """Gradients that outlive the next pass: a CUDA graph would write over its own."""
        return [g.clone() for g in grads] if self.options.mode == "reduce-overhead" else list(grads)

    @torch.no_grad()
    def _look_ahead(self, grads: list[Tensor]) -> None:
        """w' = w - rate (momentum buffer + g + decay w), without clipping."""
        move = torch._foreach_add(grads, self.weights, alpha=self.rates.decay)
        buffers = [self.sgd.state[w].get("momentum_buffer") for w in self.weights]
        if all(b is not None for b in buffers):
            torch._foreach_add_(move, buffers, alpha=self.rates.momentum)
        torch._foreach_add_(self.weights, move, alpha=-self.rates.weights)

    @torch.no_grad()
    def _move_to(self, start: list[Tensor]) -> None:
        torch._foreach_copy_(self.weights, start)

    def _difference(self, train: Batch, v: list[Tensor]) -> list[Tensor]:
        """[grad_alpha L(w + R v) - grad_alpha L(w - R v)] / 2R on the training batch; leaves w at w - R v."""
        radius = self.rates.radius / nn.utils.get_total_norm(v, foreach=True)
        shift = list(torch._foreach_mul(v, radius))
        with torch.no_grad():
            torch._foreach_add_(self.weights, shift)
        ahead = self.one_pass(train, alpha=True).alpha
        with torch.no_grad():
            torch._foreach_sub_(self.weights, shift, alpha=2)
        behind = self.one_pass(train, alpha=True).alpha
        return [(a - b) / (2 * radius) for a, b in zip(ahead, behind, strict=True)]

    def load(self, tensors: Mapping[str, np.ndarray], alpha: Mapping[str, np.ndarray]) -> None:
        """Takes weights by their official names, and alpha by cell."""
        state = {name: torch.as_tensor(np.array(value)) for name, value in tensors.items()}
        self.network.load_state_dict(state)
        with torch.no_grad():
            for mine, cell in zip(self.alpha, CELLS, strict=True):
                mine.copy_(torch.as_tensor(np.array(alpha[cell])))

    def state_bytes(self) -> int:
        """Weights, momentum, alpha and its two moments."""
        size = lambda tensors: sum(t.numel() * t.element_size() for t in tensors)
        return 2 * size(self.weights) + 3 * size(self.alpha)


def follow(optimizer: torch.optim.Optimizer, parameters: list[Tensor], grads: list[Tensor] | None = None) -> None:
    """One step of an optimizer along given gradients, or along those that are there already."""
    for p, g in zip(parameters, grads or (), strict=grads is not None):
        p.grad = g
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def set_precision(options: Options) -> None:
    """Whether float32 products may be rounded to TF32; holds for the whole process."""
    short = options.precision != "float32"
    torch.set_float32_matmul_precision("high" if short else "highest")
    torch.backends.cudnn.allow_tf32 = short
    torch.backends.cudnn.benchmark = True


def automatic(options: Options) -> contextlib.AbstractContextManager[Any]:
    """Autocast where bfloat16 is asked for."""
    if options.precision != "bfloat16":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(options.device).type, torch.bfloat16)


def compile_parts(network: Supernet, options: Options) -> None:
    """Hands the network, or each of its edges, to torch.compile; equal edges share one program."""
    if not options.compiled:
        return
    torch._dynamo.config.recompile_limit = 64  # shapes of edges times kinds of passes
    edges = [part for part in network.modules() if isinstance(part, Edge)]
    for part in [network] if options.compiled == "network" else edges:
        part.compile(mode=options.mode, dynamic=False)


def synchronize(device: str) -> None:
    """Waits until the device has done everything."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
