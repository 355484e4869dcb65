"""The same step in PyTorch, in a process that loads no JAX."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks.case import Case, images
from benchmarks.device.clock import clock
from benchmarks.device.speaker import Speaker, spanned
from benchmarks.peer_run import contender
from benchmarks.peer_torch import synchronize


def measure(given: Mapping[str, Any], rows: tuple[str, ...], say: Speaker) -> None:
    """Seconds of a step in each memory format, or of the compiled step with channels last.

    Args:
      given: a case, how to time it, and what torch.compile gets ("" for nothing).
      rows: none; they follow from what is given.
      say: what is told.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    say.facts({"torch": torch.__version__, "torch_device": name(device)})
    for last in (True,) if given["compiled"] else (False, True):
        row = "channels_last" if last else "contiguous"
        say.begin(row)
        say.row(row, one(Case(**given["case"]), given, {"device": device, "channels_last": last}, say.turn))


def one(case: Case, given: Mapping[str, Any], options: Mapping[str, Any], turn: Callable[[], None]) -> dict[str, Any]:
    """A peer's first step, with what it compiles, and its speed after that."""
    chosen = {**options, "compiled": given["compiled"], "precision": case.precision}
    (made, peer), span = spanned(lambda: contender(case, chosen))
    train, valid = (peer.batch(*half) for half in images(case))
    turn()
    if options["device"] == "cuda":
        torch.cuda.reset_peak_memory_stats()
    timed = clock(lambda: peer.step(train, valid), lambda _: synchronize(options["device"]), **given["clock"])
    used = torch.cuda.max_memory_allocated() if options["device"] == "cuda" else None
    told = {"options": chosen, "batch": case.batch, "spans": {"first_step": span}, "peak_bytes": used, **timed}
    told |= {"gradients_differ_by": made.gradients_differ_by, "steps_per_second": 1 / timed["step_seconds"]}
    return told


def name(device: str) -> str:
    """Of the device that PyTorch uses."""
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"
