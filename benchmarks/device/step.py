"""A search step of ours on the device: compiled beside others, then timed alone."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from benchmarks.build import as_type, build
from benchmarks.case import Case
from benchmarks.device.clock import clock
from benchmarks.device.facts import facts
from benchmarks.device.layouts import DEPTHWISE, LAYOUTS
from benchmarks.device.speaker import Span, Speaker, spanned
from benchmarks.measure import sizes
from jaxnas import seeds
from jaxnas.compiler import options
from jaxnas.epoch import compile_init
from jaxnas.hypergradient import Batches
from jaxnas.search import Search, bind
from jaxnas.spaces import layout as layouts
from jaxnas.spaces.networks import supernet
from jaxnas.spaces.space import Space


def measure(given: Mapping[str, Any], rows: tuple[str, ...], say: Speaker) -> None:
    """Seconds to compile, bytes and seconds of a step.

    Args:
      given: a case, how to time it, names of a layout and a depthwise formulation, how many searches side by side.
      rows: none; there is one.
      say: what is told.
    """
    case = Case(**given["case"])
    say.facts(facts())
    with DEPTHWISE[given["depthwise"]]():
        search, batches, key = side_by_side(searched(case, given["layout"], given["ops"]), case, given)
        run, draw, spans = compiled(search, batches, key)
    state = jax.block_until_ready(draw(key))
    say.turn()
    step, last = stepper(run, state, batches)
    timed = clock(step, jax.block_until_ready, **given["clock"])
    count = given["seeds"]
    told = {"seeds": count, "axis": given.get("axis"), "batch": case.batch, "precision": case.precision}
    told |= {"layout": given["layout"], "depthwise": given["depthwise"], "spans": spans, **sizes(run), **timed}
    told |= {"steps_per_second": count / timed["step_seconds"], "peak_bytes": peak(), **losses(last())}
    say.row("step", told)


def searched(case: Case, layout: str, ops: Sequence[str]) -> tuple[Search, Batches]:
    """A case's search, written down in a layout of the table, among all candidates or some."""
    built = build(case)  # sets the precision of products for the process, in which it is traced and lowered too
    model = partial(supernet, layout=LAYOUTS[layout](layouts))
    search = bind(built.search.strategy, among(built.space, ops), model=model, augment=as_type(case.precision))
    return search, built.batches


def among(space: Space, ops: Sequence[str]) -> Space:
    """The space with these candidates only; as it is where none is named."""
    return space.replace(ops=tuple(op for op in space.ops if op[0] in ops)) if ops else space


def side_by_side(one: tuple[Search, Batches], case: Case, given: Mapping[str, Any]):
    """The search for one key, or for several: (search, batches, key or keys)."""
    search, batches = one
    key, count = jax.random.key(case.seed), given["seeds"]
    if count == 1:
        return search, batches, key
    stacked = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), batches)
    return seeds.over_seeds(search, getattr(seeds, given["axis"])), stacked, jax.random.split(key, count)


def compiled(search, batches: Batches, key: Array) -> tuple[Any, Callable[[Array], Any], dict[str, Span]]:
    """The compiled step, what draws a first state, and when each part of compiling it was."""
    draw = compile_init(search.init, key)  # on a thread, as a run does
    state = jax.eval_shape(search.init, key)
    traced, trace = spanned(lambda: jax.jit(search.step, donate_argnums=0).trace(state, batches))
    lowered, lower = spanned(traced.lower)
    run, compile_ = spanned(lambda: lowered.compile(options()))
    return run, draw, {"trace": trace, "lower": lower, "compile": compile_}


def stepper(run, state, batches: Batches) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A function that gives the next step to the device, and one that tells the first step's metrics."""
    held: dict[str, Any] = {"state": state}

    def step():
        held["state"], metrics = run(held["state"], batches)
        held.setdefault("first", metrics)
        return metrics

    return step, lambda: held["first"]


def losses(metrics) -> dict[str, float]:
    """Mean losses of the first step, which tell whether two programs compute the same."""
    found = jax.device_get({player: told["loss"] for player, told in metrics.items()})
    return {f"first_{player}_loss": float(loss.mean()) for player, loss in found.items()}


def peak() -> int | None:
    """Largest bytes of the device in use so far in this process; None where it does not tell."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
