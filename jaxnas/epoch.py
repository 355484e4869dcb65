"""A whole epoch as one compiled program: data on the device, steps in a loop, no host in between; and its first state.

Where in the river: around the step. Knows a `Search` and arrays of images; no files, no progress bars.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxnas.agreement import agreed
from jaxnas.compiler import options, quick
from jaxnas.data import Batch, epoch_rows
from jaxnas.feeding import Chunks, Orders, fed, in_turn
from jaxnas.hoisting import called, tree_of
from jaxnas.hypergradient import Batches
from jaxnas.parallel import Placement, one
from jaxnas.search import HOISTED, Search, SearchState

State = TypeVar("State")  # of a search, or of a retraining
PACE = 2.0  # seconds between two looks of the host at a running epoch


class Diverged(ArithmeticError):
    """A loss that is not a number."""


class Program(NamedTuple):
    """A compiled epoch, of a search or of a retraining."""

    run: Callable[..., tuple[Any, Any, Array]]  # (state, data, key, start, stop) -> (state, sums, bad step)
    steps: int  # in an epoch
    compile_seconds: float
    memory_bytes: dict[str, int]  # of the compiled program: arguments, outputs, temporaries
    step_of: Callable[[Any], Any] = lambda state: state.bilevel.step  # steps that a state has made


class Told(NamedTuple):
    """What a compiled epoch is told: its key, and functions whose leaves are the numbers that only scale."""

    key: Array
    functions: Any


def steps_per_epoch(images: int, batch: int) -> int:
    """Steps in which every image is seen once; the last batch is filled up with images already seen."""
    return -(-images // batch)


def compile_epoch(
    search: Search,
    data: Batches | Chunks,
    batch: int,
    placement: Placement | None = None,
    sizes: tuple[int, int] | None = None,
) -> Program:
    """Compiles any stretch `start <= step < stop` of an epoch, once; the state's buffers are donated.

    Batch t of the epoch is row t of a permutation of each half, drawn from the key; the last batch is filled up from
    the front of the permutation, so that shapes never change. The validation half starts again when it is shorter.

    Args:
      search: what to run.
      data: `Batches(train=Batch of all images, valid=...)` on the devices, or chunks, as `feeding.placed` returns them.
      batch: images in each of the two batches of a step, over all devices.
      placement: where it runs; on one device unless given. The search is bound to its `axis_name`.
      sizes: images of each half, where the placement has filled them up.
    """
    placement = placement or one()
    placement.check_batch(batch)
    sizes = sizes or _sizes(data)
    step, look = jax.jit(called), lambda state: (state.bilevel.step, state.bilevel.alpha)  # traced once, inlined

    def run(state: SearchState, images: Batches, told: Told, start: Array, stop: Array):
        chunk = lambda i: in_turn(images, i, batch, placement)
        batches = chunk if isinstance(data, Chunks) else batches_of(images, told.key, batch, placement, sizes)
        return stretch(partial(step, told.functions), batches, state, start, stop, look)

    state = jax.eval_shape(search.init, jax.random.key(0))
    total, state = steps_per_epoch(sizes[0], batch), jax.eval_shape(search.init, jax.random.key(0))
    return compile_stretch(run, state, data, search.step, placement, partial(orders, sizes, batch), total)


def compile_stretch(
    run: Callable[..., Any],
    state: Any,
    data: Any,
    step: Callable[..., Any],
    placement: Placement,
    orders: Orders,
    steps: int,
) -> Program:
    """The program of a stretch of an epoch; the numbers of the step are arguments that it keeps by it.

    Args:
      run: (state, images, told, start, stop) -> (state, sums, bad step).
      state: arrays or their shapes.
      data: images on the devices, or chunks of them.
      step: of a search or a training; others that differ in their numbers are the same program.
      placement: where it runs.
      orders: key -> rows of each half.
      steps: in an epoch.
    """
    began, number = time.perf_counter(), jax.ShapeDtypeStruct((), jnp.int32)
    told = Told(jax.eval_shape(lambda: jax.random.key(0)), tree_of(step))
    shapes = data.shapes() if isinstance(data, Chunks) else data
    compiled = placement.compile(run, state, shapes, told, number, number)
    spread = placement.spread(told.functions)
    mine = lambda state, images, key, *stretch: compiled(state, images, Told(key, spread), *stretch)
    whole = fed(mine, data, orders) if isinstance(data, Chunks) else mine
    return Program(whole, steps, time.perf_counter() - began, memory_of(compiled))


def compile_init(init: Callable[[Array], State], key: Array) -> Callable[[Array], State]:
    """Begins to compile what draws a first state, on a thread of its own; the call that is returned waits for it.

    Weights are hundreds of small draws, so this takes seconds: a caller compiles the step meanwhile.

    Args:
      init: key -> state.
      key: of the shape that the call will get: one, or [S] of them where `init` draws S searches.

    Raises:
      Exception: what XLA refuses is raised where the state is drawn, not here.
    """
    lowered = jax.jit(init).lower(key)  # not on the thread: Python is busy here, XLA is there
    pool = ThreadPoolExecutor(1)
    program = pool.submit(lowered.compile, quick())
    pool.shutdown(wait=False)
    return lambda key: program.result()(key)


def batches_of(
    data: Batches, key: Array, batch: int, placement: Placement | None = None, sizes: tuple[int, int] | None = None
) -> Callable[[Any], Batches]:
    """Step of an epoch -> its batches: rows of a permutation of each half, drawn from the epoch's key."""
    take, sizes = (placement or one()).take, sizes or _sizes(data)
    rows = orders(sizes, batch, key)
    return lambda i: Batches(*(take(half, order[i % len(order)]) for half, order in zip(data, rows, strict=True)))


def orders(sizes: tuple[int, int], batch: int, key: Array) -> list[Array]:
    """Rows [T, B] of every batch of an epoch, of each half."""
    return [epoch_rows(k, size, batch) for k, size in zip(jax.random.split(key), sizes, strict=True)]


def stretch(step, batches: Callable[[Any], Any], state, start: Array, stop: Array, look: Callable[[Any], Any]):
    """The steps `start <= i < stop` of an epoch: (state behind them, sums of their metrics, first bad step or -1).

    Args:
      step: (state, batch) -> (state, metrics).
      batches: number of a step in the epoch -> its batch.
      state, start, stop: where to begin, and which steps.
      look: state -> (steps that it has made, what in it must be finite besides the metrics).
    """

    def body(i, carry):
        state, sums, bad = carry
        at, _ = look(state)
        state, metrics = step(state, batches(i))
        fine = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((metrics, look(state)[1]))]
        bad = jnp.where((bad < 0) & ~jnp.stack(fine).all(), at, bad)
        return state, jax.tree.map(jnp.add, sums, metrics), bad

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(step, state, batches(start))[1])
    return lax.fori_loop(start, stop, body, (state, zeros, jnp.int32(-1)))


def _sizes(data: Batches | Chunks) -> tuple[int, int]:
    halves = data.halves if isinstance(data, Chunks) else data
    return halves.train.label.shape[0], halves.valid.label.shape[0]


def compile_measure(
    watch: Callable[[Search], Callable[[SearchState, Batches], Mapping[str, Array]]],
    search: Search,
    data: Batches | Chunks,
    batch: int,
) -> tuple[Callable[[SearchState, Any, Array], Any], tuple[str, ...]]:
    """A compiled (state behind an epoch, data, its key) -> the measure on its last batches, and the names measured."""
    sizes, key = _sizes(data), jax.eval_shape(lambda: jax.random.key(0))
    last, state = steps_per_epoch(sizes[0], batch) - 1, jax.eval_shape(search.init, key)
    told = Told(key, {name: tree_of(getattr(search, name)) for name in HOISTED})
    measured = lambda told, state, batches: watch(search._replace(**told.functions))(state, batches)
    if isinstance(data, Chunks):
        lowered = jax.jit(measured).lower(told, state, dataclasses.replace(data, steps=1).shapes())
        compiled, draw = lowered.compile(options()), jax.jit(partial(orders, sizes, batch))
        of_chunks = lambda state, data, key: compiled(
            told._replace(key=key), state, data.at(jax.device_get(draw(key)), last, 1)
        )
        return of_chunks, tuple(lowered.out_info)
    run = lambda told, state, data: measured(told, state, batches_of(data, told.key, batch)(last))
    lowered = jax.jit(run).lower(told, state, data)
    compiled = lowered.compile(options())
    return lambda state, data, key: compiled(told._replace(key=key), state, data), tuple(lowered.out_info)


def memory_of(compiled) -> dict[str, int]:
    """Bytes of a compiled program: arguments, outputs, temporaries."""
    analysis = compiled.memory_analysis()
    names = ("argument", "output", "temp") if analysis else ()
    return {name: int(getattr(analysis, f"{name}_size_in_bytes")) for name in names}


def run_epoch(
    program: Program, state: State, data: Any, key: Array, tell: Callable[[int, Any], None]
) -> tuple[State, dict[str, dict[str, float]]]:
    """One epoch: the state behind it and the mean of each metric over the moves that were made.

    The host looks in about every two seconds, and only to show progress: the numbers do not depend on it.

    Args:
      program: from `compile_epoch`, here or in `evaluation.training`.
      state, data, key: where to start, on what, in which order.
      tell: called with (steps done, metrics so far).

    Raises:
      Diverged: a loss or an alpha is not a number; says at which step.
    """
    done, chunk, sums = 0, 1, None
    while done < program.steps:
        stop = min(done + chunk, program.steps)
        began = time.perf_counter()
        state, part, bad = program.run(state, data, key, np.int32(done), np.int32(stop))
        part, bad = jax.device_get((part, bad))
        if bad >= 0:
            last = int(np.asarray(program.step_of(state)).flat[0]) - 1
            raise Diverged(f"a loss or an alpha is not a number at step {int(bad)} (seen at step {last})")
        chunk = agreed(max(1, int((stop - done) * PACE / max(time.perf_counter() - began, 1e-3))))
        sums = part if sums is None else jax.tree.map(np.add, sums, part)
        done = stop
        tell(done, _means(sums))
    return state, _means(sums)


def _means(sums) -> dict[str, dict[str, float]]:
    """Sums over an epoch -> means over the moves; nothing for a player who rested all the time."""
    players = {name: s for name, s in sums.items() if s["moves"] > 0}
    return {name: {k: float(v / s["moves"]) for k, v in s.items() if k != "moves"} for name, s in players.items()}


def on_device(train: Batch, valid: Batch) -> Batches:
    """Both halves of a split on the default device, as they are stored."""
    return Batches(*map(one().images, (Batch(*train), Batch(*valid))))
