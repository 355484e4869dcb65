"""Rows in one process, each compiled, then their steps timed in turn, so that a noisy minute hits all alike.

In the middle of the search, where no row rests any more. A row that is impossible at this size is left out, with the
reason. Orders of DARTS in PyTorch take part as further rows; their memory is measured in processes of their own.
"""

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.build import LENGTH, build
from benchmarks.case import Case
from benchmarks.measure import compile_step, first_state, record, stepper, summary
from benchmarks.peers import alone, interleave, reason_against, settings

PEER = "PyTorch "  # and the name of our row


def measure(names: Iterable[str], case: Case, steps: int) -> dict[str, Any]:
    """{"rows": what is known of each row's program, and its seconds, "left_out": reasons}, for JSON."""
    turns, found, left_out = all_ready(names, case)
    for step in turns.values():
        step()
    seconds = interleave(turns, steps)
    rows = {name: {**found[name], **summary(some, case.batch)._asdict()} for name, some in seconds.items()}
    return {"rows": rows, "left_out": left_out}


def all_ready(names: Iterable[str], case: Case):
    """By name: functions that make the next step, what is known of the programs, and why a row is left out."""
    turns, found, left_out = {}, {}, {}
    for name in names:
        make = peer_ready if name.startswith(PEER) else ready
        try:
            turns[name], found[name] = make(case._replace(strategy=name.removeprefix(PEER)))
        except ValueError as error:  # DrNAS wants channels that are a multiple of 6; PyTorch is not installed
            left_out[name] = str(error)
    return turns, found, left_out


def ready(case: Case) -> tuple[Callable[[], Any], dict[str, Any]]:
    """A function that makes a row's next step, and what is known of its program."""
    built, key = build(case), jax.random.key(case.seed)
    compiled, state = compile_step(built.search, built.batches, key), first_state(built.search, key)
    middle = state._replace(bilevel=state.bilevel._replace(step=jnp.int32(LENGTH * 3 // 5)))
    return stepper(compiled.run, middle, built.batches), record(compiled)


def peer_ready(case: Case) -> tuple[Callable[[], Any], dict[str, Any]]:
    """The same for a peer, in its memory format channels last."""
    if reason := reason_against(case):
        raise ValueError(reason)
    from benchmarks.peer_run import contender

    options = settings(case, True, "", "default")
    return contender(case, options)[0].step, {"options": options, "alone": alone(case, options)}


if __name__ == "__main__":
    chosen, given, count = json.loads(sys.argv[1])
    print(json.dumps(measure(chosen, Case(*given), count)))
