"""The layout that keeps most and still fits the device's memory.

Where in the river: between a search and its compiled epoch. Knows layouts and bytes; no file.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax

from jaxnas.epoch import Program, compile_epoch
from jaxnas.hypergradient import Batches
from jaxnas.memory import Need, Room, need, room, size, told
from jaxnas.parallel import Placement
from jaxnas.search import Search


def compile_to_fit(
    searches: Sequence[Search],
    data: Batches,
    batch: int,
    placement: Placement,
    sizes: tuple[int, int],
    say: Callable[[str], None],
) -> Program:
    """An epoch of one search after another, compiled until it fits the memory that the device says it has.

    Args:
      searches: one search, laid out in several ways, from what keeps most to what keeps least (`layout.choices`).
      data, batch, placement, sizes: as for `compile_epoch`.
      say: called with one sentence where a layout does not fit.

    Returns:
      The first program that fits; the last one if none does.
    """
    compiled = lambda search: compile_epoch(search, data, batch, placement, sizes)
    return first_that_fits(searches, compiled, partial(_needed, data=data, placement=placement), _here(placement), say)


def first_that_fits(
    searches: Sequence[Search],
    compiled: Callable[[Search], Program],
    needed: Callable[[Program], Need],
    room: Room,
    say: Callable[[str], None],
) -> Program:
    """The first program that fits; the last one if none does, the first where the device does not tell its limit.

    Args:
      searches: from what keeps most to what keeps least.
      compiled: search -> program.
      needed: program -> bytes.
      room: memory of the device.
      say: called with one sentence where a layout does not fit.
    """
    for left in range(len(searches), 0, -1):
        program = compiled(searches[-left])
        need = needed(program)
        if room.limit is None or need.total <= room.limit or left == 1:
            break
        say(
            f"the supernet as it is laid out needs {size(need.total)}, the device has {size(room.limit)}: it is "
            "compiled again, to keep fewer activations and compute them anew in the backward pass."
        )
    return program


def what_it_needs(program: Program, data: Batches, batch: int, placement: Placement) -> tuple[str, str]:
    """One line on the memory of a compiled epoch, and a warning, empty where it fits.

    Args:
      program: the epoch.
      data: all images, as the devices hold them.
      batch: images in a batch.
      placement: where it runs.

    Raises:
      MemoryError: where it cannot fit, as the device itself says.
    """
    return told(_needed(program, data, placement), _here(placement), batch, len(placement.devices))


def _needed(program: Program, data: Batches, placement: Placement) -> Need:
    return need(program.memory_bytes, data, len(placement.devices))


def _here(placement: Placement) -> Room:
    """What a device of this process has left: its share of the machine's memory where they live in that."""
    local = jax.local_devices()
    return room(local[0], min(len(placement.devices), len(local)))
