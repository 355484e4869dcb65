"""One search step of ours: how long until it is compiled, how large it is, how fast it runs.

Seconds of steps are medians; lines, bytes and XLA's counts are the same on every run.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from benchmarks import memory
from jaxnas.compiler import options
from jaxnas.epoch import compile_init
from jaxnas.evaluation.cost import supernet_cost, total
from jaxnas.hypergradient import Batches
from jaxnas.search import Search, SearchState
from jaxnas.seeds import Axis, Searches, mapped, over_seeds, vmapped
from jaxnas.spaces.space import Space


class Compiled(NamedTuple):
    """A compiled step, and what is known before it has run."""

    run: Callable[[SearchState, Batches], Any]  # the state's buffers are donated
    trace_seconds: float
    lower_seconds: float
    compile_seconds: float
    stablehlo_lines: int
    temporary_bytes: int | None
    argument_bytes: int | None
    output_bytes: int | None
    donated_bytes: int | None  # output that lives in the arguments' buffers
    xla_flops: float | None
    xla_bytes_accessed: float | None


class Timed(NamedTuple):
    """Steps that were run."""

    step_seconds: float  # median
    all_seconds: list[float]
    images_per_second: float  # of the training batch; alpha sees as many


def compile_step(search: Search | Searches, batches: Batches, key: Array) -> Compiled:
    """Traces, lowers and compiles a step, each timed; the key is one of those that its `init` takes.

    XLA counts the body of a loop once, however often it runs, so its operations and bytes are far below the truth for
    a program that scans; `work` gives what a step has to do.
    """
    lowered, compiled, seconds = time_compilation(search, batches, key)
    lines = lowered.as_text().count("\n")
    return Compiled(compiled, **seconds, stablehlo_lines=lines, **sizes(compiled), **counts(compiled))


def time_compilation(search: Search | Searches, batches: Batches, key: Array) -> tuple[Any, Any, dict[str, float]]:
    """(lowered, compiled, seconds of each part), and nothing that a run would not do: what is counted takes seconds."""
    state = jax.eval_shape(search.init, key)
    traced, trace_seconds = timed(lambda: jax.jit(search.step, donate_argnums=0).trace(state, batches))
    lowered, lower_seconds = timed(traced.lower)
    compiled, compile_seconds = timed(lambda: lowered.compile(options()))
    names = ("trace_seconds", "lower_seconds", "compile_seconds")
    return lowered, compiled, dict(zip(names, (trace_seconds, lower_seconds, compile_seconds), strict=True))


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call gives, and its seconds."""
    began = time.perf_counter()
    return call(), time.perf_counter() - began


def sizes(compiled) -> dict[str, Any]:
    """Bytes on each device; None where the backend does not tell."""
    names = {"temporary": "temp", "argument": "argument", "output": "output", "donated": "alias"}
    analysis = compiled.memory_analysis()
    return {f"{ours}_bytes": getattr(analysis, f"{xla}_size_in_bytes", None) for ours, xla in names.items()}


def counts(compiled) -> dict[str, Any]:
    """XLA's own estimate of operations and of bytes read and written."""
    found = compiled.cost_analysis() or {}
    return {"xla_flops": found.get("flops"), "xla_bytes_accessed": found.get("bytes accessed")}


def work(space: Space, batch: int, passes: int | None) -> dict[str, int | None]:
    """Operations that a step has to do, two for each multiply-add of convolutions and matrix products.

    Args:
      space: what the supernet contains; every candidate is counted.
      batch: images in a batch.
      passes: forward passes that a step is worth, without recomputation; None where nobody has counted.
    """
    forward = 2 * batch * total(supernet_cost(space)).multiply_adds
    return {"forward_flops": forward, "step_flops": passes and passes * forward}


def first_state(search: Search | Searches, key: Array) -> SearchState:
    """The state before the first step, by a program that is compiled fast."""
    return compile_init(search.init, key)(key)


def stepper(run: Callable[[SearchState, Batches], Any], state: SearchState, batches: Batches) -> Callable[[], Any]:
    """A call makes the next step, waits for it and gives its metrics."""
    held = [state]

    def step():
        held[0], metrics = run(held[0], batches)
        return jax.block_until_ready(metrics)

    return step


def working_bytes(step: Callable[[], Any]) -> int | None:
    """Temporaries of a step as the system sees them; None on accelerators, where the compiler's number is exact."""
    return memory.working(step) if jax.default_backend() == "cpu" else None


def summary(seconds: list[float], batch: int) -> Timed:
    """Median of the steps, and images each second."""
    middle = median(seconds)
    return Timed(middle, seconds, batch / middle)


def record(compiled: Compiled) -> dict[str, Any]:
    """What is known of a compiled step, for JSON."""
    return {name: value for name, value in compiled._asdict().items() if name != "run"}


def measure(search: Search | Searches, batches: Batches, steps: int, key: Array, images: int) -> dict[str, Any]:
    """Everything about one search step that needs no peer, for JSON.

    Args:
      search: one search, or several side by side.
      batches: what its step takes, on the device.
      steps: how many are timed.
      key: what its `init` takes.
      images: those of the training batch, of all searches together.
    """
    compiled = compile_step(search, batches, key)
    step = stepper(compiled.run, first_state(search, key), batches)
    step()  # the first one finds memory that nobody has touched
    used = working_bytes(step)
    seconds = [timed(step)[1] for _ in range(steps)]
    return {**record(compiled), "working_bytes": used, **summary(seconds, images)._asdict()}


def measure_seeds(search: Search, batches: Batches, steps: int, key: Array, count: int) -> dict[str, Any]:
    """The same for several searches in one program: one after another on CPU, all at once on accelerators."""
    name, axis = best_axis()
    stacked = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), batches)
    images = count * len(batches.train.label)
    found = measure(over_seeds(search, axis), stacked, steps, jax.random.split(key, count), images)
    return {"count": count, "axis": name, "search_seconds": found["step_seconds"] / count, **found}


def best_axis() -> tuple[str, Axis]:
    """How several searches share this machine."""
    return ("mapped", mapped) if jax.default_backend() == "cpu" else ("vmapped", vmapped)
