"""The PyTorch step beside ours: made from the same weights and images, timed in turn with ours in one process.

Works without PyTorch; then there is no peer, and the result says so.
"""

import importlib.util
import time
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import jax

from benchmarks.build import Built
from benchmarks.case import PEERS, Case
from benchmarks.child import ask
from benchmarks.measure import summary, timed
from jaxnas.interop import to_torch
from jaxnas.search import SearchState


class Wish(NamedTuple):
    """What the peer is asked for."""

    compiled: str = "edges"  # what torch.compile gets: "edges", "network", or "" for no compiled peer
    mode: str = "default"  # of torch.compile
    layout: str = "faster"  # "contiguous", "channels_last", or the faster of both


def reason_against(case: Case) -> str | None:
    """Why this case has no peer; None where it has one."""
    if case.space != "darts" or case.strategy not in PEERS:
        return f"the peer knows {', '.join(PEERS)} on the space darts, not {case.strategy} on {case.space}"
    if importlib.util.find_spec("torch") is None:
        return "PyTorch is not installed"
    return None


def compare(case: Case, built: Built, state: SearchState, ours: Callable[[], Any], wish: Wish, rounds: int):
    """Our step and the peers' in turn: (our seconds, {"eager": record, "compiled": record}).

    Args:
      case: what is measured.
      built: the same, as ours runs.
      state: the state that `ours` has not moved yet; the peers start from it.
      ours: our next step; gives its metrics.
      wish: which peers.
      rounds: steps of each.
    """
    start = official(built, state)
    losses = {name: float(m["loss"]) for name, m in ours().items()}
    last = wish.layout == "channels_last" or (wish.layout == "faster" and channels_last_wins(case))
    kinds = {"eager": "", **({"compiled": wish.compiled} if wish.compiled else {})}
    options = {name: settings(case, last, compiled, wish.mode) for name, compiled in kinds.items()}
    tried = {name: attempt(case, chosen, start) for name, chosen in options.items()}
    running = {name: peer for name, peer in tried.items() if not isinstance(peer, str)}
    seconds = interleave({"ours": ours, **{name: peer.step for name, peer in running.items()}}, rounds)
    records = {}
    for name, peer in tried.items():
        if name in running:
            records[name] = {"options": options[name], **record(peer, losses, seconds, name, case)}
        else:
            records[name] = {"options": options[name], "skipped": peer}
    return seconds["ours"], records


def record(peer, losses: Mapping[str, float], seconds: Mapping[str, list[float]], name: str, case: Case):
    """What is known of a peer that ran: its speed, ours over it, and whether both compute the same losses."""
    from torch import get_num_threads

    apart = {half: abs(peer.losses[half] - ours) / abs(ours) for half, ours in losses.items()}
    return {
        "first_step_seconds": peer.first_seconds,
        **summary(seconds[name], case.batch)._asdict(),
        "ours_is_faster_by": median(seconds[name]) / median(seconds["ours"]),
        "first_losses_differ_by": apart,
        "gradients_differ_by": peer.gradients_differ_by,
        "threads": get_num_threads(),
    }


def official(built: Built, state: SearchState) -> tuple[dict, dict]:
    """Weights and alpha of a state under official names; copied, because a step overwrites the state."""
    weights, alpha = jax.device_get((state.bilevel.weights, state.bilevel.alpha))
    return to_torch(built.space, jax.tree.map(lambda x: x.copy(), weights)), {k: a.copy() for k, a in alpha.items()}


def settings(case: Case, channels_last: bool, compiled: str, mode: str) -> dict[str, Any]:
    """Options of a peer, as data."""
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    what = {"compiled": compiled, "mode": mode if compiled else "default"}
    return {"device": device, "channels_last": channels_last, "precision": case.precision, **what}


def attempt(case: Case, options: Mapping[str, Any], start: Any):
    """A peer that has made its first step, or why there is none: a compiler is missing, say."""
    from benchmarks.peer_run import contender

    try:
        return contender(case, options, start)[0]
    except Exception as error:  # whatever a compiler raises is a reason, not a failure of the measurement
        return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"


def interleave(steps: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each one's steps, made in turn, so that a noisy minute hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            seconds[name].append(timed(step)[1])
    return seconds


def channels_last_wins(case: Case) -> bool:
    """Whether the eager peer is faster with channels last: the best of three steps each."""
    from benchmarks.peer_run import contender

    make = partial(settings, case, compiled="", mode="default")
    steps = {str(last): contender(case, make(channels_last=last))[0].step for last in (False, True)}
    seconds = interleave(steps, 3)
    return min(seconds["True"]) < min(seconds["False"])


def alone(case: Case, options: Mapping[str, Any], steps: int = 2) -> dict[str, Any]:
    """Memory and start of a peer, measured in a process that does nothing else."""
    try:
        return ask("benchmarks.peer_run", [case, options, steps, time.time()])
    except RuntimeError as error:
        return {"failed": str(error).splitlines()[-1]}
