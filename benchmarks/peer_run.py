"""A peer that runs: from a case and options to steps; and alone in a process, for its memory and its start.

Knows PyTorch and no JAX, so that what is measured here is the peer's own.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from benchmarks import memory
from benchmarks.case import CLASSES, PEERS, Case, images
from benchmarks.peer_torch import Options, Peer, Supernet, synchronize

WRONG = {"float32": 1e-2, "tf32": 0.1, "bfloat16": 0.5}  # of gradients, relative: more than rounding at kinks explains


class Contender(NamedTuple):
    """Something that makes search steps."""

    step: Callable[[], Any]  # waits until the step is made; gives {"train": loss, "valid": loss}
    first_seconds: float  # of its first step, with whatever is compiled in it
    losses: dict[str, float]  # of that step
    gradients_differ_by: float | None = None  # compiled from eager ones, relative


def contender(case: Case, options: Mapping[str, Any], start: Any = None) -> tuple[Contender, Any]:
    """A peer that has made its first step, and the peer itself.

    Args:
      case: what is measured.
      options: of `peer_torch.Options`.
      start: (weights, alpha) under official names; its own first values unless given.
    """
    peer = Peer(Supernet(case.channels, case.depth, CLASSES), PEERS[case.strategy].order, Options(**options))
    if start is not None:
        peer.load(*start)
    train, valid = (peer.batch(*half) for half in images(case))

    def step():
        losses = peer.step(train, valid)
        synchronize(peer.options.device)
        return losses

    began = time.perf_counter()
    losses = {name: float(loss) for name, loss in step().items()}
    seconds = time.perf_counter() - began
    apart = gradients_apart(peer, train, valid) if peer.options.compiled else None
    return Contender(step, seconds, losses, apart), peer


def gradients_apart(peer: Peer, train, valid) -> float:
    """How far the gradients of the compiled peer are from those of the same peer run eagerly: |c - e| / |e|.

    Raises:
      ArithmeticError: so far that it does not compute the same; says how far.
    """
    passes = lambda: [*peer.one_pass(train, weights=True).weights, *peer.one_pass(valid, alpha=True).alpha]
    flat = lambda: torch.cat([g.flatten() for g in passes()])
    compiled = flat()
    with torch.compiler.set_stance("force_eager"):
        eager = flat()
    apart, limit = float((compiled - eager).norm() / eager.norm()), WRONG[peer.options.precision]
    if not apart <= limit:
        raise ArithmeticError(f"its gradients differ from the eager ones by {apart:.2g} (allowed: {limit:g})")
    return apart


def alone(case: Case, options: Mapping[str, Any], steps: int, spawned: float) -> dict[str, Any]:
    """What `peers.alone` asks for: bytes, and seconds from the start of the process."""
    imported, before = time.time() - spawned, memory.resident()
    made, peer = contender(case, options)
    first = time.time() - spawned
    found = {"import_seconds": imported, "first_step_seconds": first, "state_bytes": peer.state_bytes()}
    run = lambda: [made.step() for _ in range(steps)]
    if torch.device(peer.options.device).type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        at_rest = torch.cuda.memory_allocated()
        run()
        return {**found, "working_bytes": torch.cuda.max_memory_allocated() - at_rest}
    used = memory.working(run)
    return {**found, "working_bytes": used, "above_imports_bytes": before and memory.peak() - before}


if __name__ == "__main__":
    given, chosen, count, began = json.loads(sys.argv[1])
    print(json.dumps(alone(Case(*given), chosen, count, began)))
