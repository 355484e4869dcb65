"""How images reach the devices: all at once before the first epoch, or chunk by chunk where they stay on disk.

Where in the river: between the spring and the step. Knows batches, rows and a placement; no step, no files.

    epoch    |--- chunk 0 ---|--- chunk 1 ---|--- chunk 2 ---|      the same number of steps in each
    devices      steps 0..        steps k..       steps 2k..
    threads      read chunk 1     read chunk 2    -

A chunk holds the batches of its steps in their order, so they are those that whole epochs on the device have, bit for
bit; two chunks are there at a time.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxnas.data import Batch
from jaxnas.datasets.stored import ahead, streamed
from jaxnas.memory import size
from jaxnas.parallel import Placement, one

CHUNK = 2**27  # bytes of images on the devices, and as many that are read meanwhile

Orders = Callable[[Array], Sequence[Array]]  # key of an epoch -> rows [steps, B] of each half


@dataclasses.dataclass(frozen=True, eq=False)
class Chunks:
    """Images on disk, and how an epoch gets them."""

    halves: Any  # `Batch`, or a pytree of such; numpy, images as `Stored`
    batch: int
    steps: int  # in a chunk
    placement: Placement

    @property
    def nbytes(self) -> int:
        """Bytes of a chunk of images on all devices."""
        return self.steps * _bytes_of_a_step(self.halves, self.batch)

    def given(self, rows: Sequence[np.ndarray]) -> Any:
        """Some rows of each half, on the devices."""
        halves, tree = jax.tree.flatten(self.halves, is_leaf=_is_batch)
        chosen = (Batch(half.image[r], half.label[r]) for half, r in zip(halves, rows, strict=True))
        return jax.tree.unflatten(tree, [self.placement.images(half) for half in chosen])

    def at(self, rows: Sequence[np.ndarray], first: int, steps: int) -> Any:
        """The batches of so many steps of an epoch, of which these are all rows [T, B] of each half."""
        return self.given([np.asarray(r)[np.arange(first, first + steps) % len(r)].ravel() for r in rows])

    def shapes(self) -> Any:
        """Shapes of a chunk as the program gets it."""
        blank = lambda x: np.zeros((self.steps * self.batch, *x.shape[1:]), x.dtype)
        zeros = lambda half: self.placement.images(half._replace(image=blank(half.image), label=blank(half.label)))
        chunk = jax.tree.map(zeros, self.halves, is_leaf=_is_batch)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), chunk)


@dataclasses.dataclass(frozen=True)
class _Turn:
    epoch: bytes  # its key
    number: int  # of the chunk
    rows: Sequence[np.ndarray] = dataclasses.field(compare=False, repr=False)


def placed(halves: Any, placement: Placement, batch: int, say: Callable[[str], None] = lambda text: None) -> Any:
    """The images on the devices; or, where they are larger than memory, what gives them chunk by chunk.

    Args:
      halves: `Batch` of all images, or a pytree of such; the first says how many steps an epoch has.
      placement: where they go.
      batch: images in a batch, over all devices.
      say: called with one sentence where they stay on disk.

    Returns:
      The same pytree of arrays, or `Chunks`; `compile_epoch` takes either.
    """
    leaves = jax.tree.leaves(halves, is_leaf=_is_batch)
    if not any(streamed(half.image) for half in leaves):
        return jax.tree.map(placement.images, halves, is_leaf=_is_batch)
    total = -(-len(leaves[0].label) // batch)
    most = min(max(1, CHUNK // _bytes_of_a_step(halves, batch)), total)
    chunks = Chunks(halves, batch, -(-total // -(-total // most)), placement)
    whole = sum(half.image.nbytes for half in leaves)
    say(
        f"images: {size(whole)} stay on disk, since they would take too much of the memory that is free; each epoch "
        f"reads them, {chunks.steps} of its {total} steps ({size(chunks.nbytes)}) at a time, the next while these run."
    )
    return chunks


def in_turn(chunk: Any, step: Array, batch: int, placement: Placement) -> Any:
    """Inside a program: the batches of a step, counted from the first of the chunk.

    Args:
      chunk: of `Chunks`.
      step: its number in the chunk.
      batch, placement: as for `placed`.
    """
    rows = step * batch + jnp.arange(batch, dtype=jnp.int32)
    return jax.tree.map(lambda half: placement.take(half, rows), chunk, is_leaf=_is_batch)


def fed(compiled: Callable[..., Any], chunks: Chunks, orders: Orders) -> Callable[..., Any]:
    """Any stretch of an epoch, from a program that runs a stretch of one chunk: (state, images, key, start, stop).

    Args:
      compiled: (state, chunk, key, start, stop), with steps counted from the first of the chunk.
      chunks: where images come from.
      orders: key -> rows of each half.

    Raises:
      ValueError: from the function that is returned, for a file that was damaged meanwhile, by its name.
    """
    draw, per, known = jax.jit(orders), chunks.steps, dict[bytes, Sequence[np.ndarray]]()
    read = ahead(lambda turn: chunks.at(turn.rows, turn.number * per, per))

    def rows_of(key: Array) -> tuple[bytes, Sequence[np.ndarray]]:
        own = chunks.placement.single(key)
        name = np.asarray(jax.random.key_data(own)).tobytes()
        if name not in known:
            known.clear()
            known[name] = jax.device_get(draw(own))
        return name, known[name]

    def run(state: Any, data: Any, key: Array, start: Any, stop: Any):
        (name, rows), sums, bad = rows_of(key), None, np.int32(-1)
        last = -(-len(rows[0]) // per) - 1
        for number in range(int(start) // per, -(-int(stop) // per)):
            following = _Turn(name, number + 1, rows) if number < last else None
            chunk, first = read(_Turn(name, number, rows), following), number * per
            begin, end = max(int(start) - first, 0), min(int(stop) - first, per)
            state, part, found = compiled(state, chunk, key, np.int32(begin), np.int32(end))
            part, found = jax.device_get((part, found))
            sums, bad = part if sums is None else jax.tree.map(np.add, sums, part), found if bad < 0 else bad
        return state, sums, bad

    return run


def in_order(data: Any, batch: int) -> Iterator[tuple[int, Any]]:
    """(number of the first image, images on the device): all at once, or chunk after chunk.

    Args:
      data: a `Batch` of arrays, or `Chunks` of one.
      batch: images in a batch.
    """
    if not isinstance(data, Chunks):
        yield 0, data
        return
    count, together = len(data.halves.label), data.steps * batch
    firsts = range(0, count, together)
    read = ahead(lambda first: data.given([np.arange(first, first + together) % count]))
    for first, following in zip_longest(firsts, firsts[1:]):
        yield first, read(first, following)


def on_one(data: Any, halves: Any, placement: Placement, batch: int) -> Any:
    """The same images for one device, for what runs outside the step.

    Args:
      data: of `placed`.
      halves, placement, batch: what it was given.
    """
    return data if len(placement.devices) == 1 else placed(halves, one(), batch)


def _is_batch(tree: Any) -> bool:
    return isinstance(tree, Batch)


def _bytes_of_a_step(halves: Any, batch: int) -> int:
    leaves = jax.tree.leaves(halves, is_leaf=_is_batch)
    return sum(batch * int(np.prod(half.image.shape[1:])) for half in leaves)
