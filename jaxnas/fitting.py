"""The layout that keeps most and still fits the device's memory.

Where in the river: between a search and its compiled epoch. Knows layouts and bytes; no file.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax

from jaxnas.agreement import everywhere
from jaxnas.epoch import Program, compile_epoch
from jaxnas.feeding import Chunks
from jaxnas.hypergradient import Batches
from jaxnas.memory import Need, Room, need, room, size, told
from jaxnas.parallel import Placement, wait
from jaxnas.search import Search
from jaxnas.spaces.layout import Layout


def compile_to_fit(
    layouts: Sequence[Layout],
    bound: Callable[[Layout], Search],
    data: Batches | Chunks,
    batch: int,
    placement: Placement,
    sizes: tuple[int, int],
    say: Callable[[str], None],
) -> tuple[Layout, Program]:
    """An epoch of a search, compiled in one layout after another until it fits the memory that the devices have.

    Where several processes share the search, all take the same layout: the first that fits in each of them.

    Args:
      layouts: from what keeps most to what keeps least (`layout.choices`).
      bound: layout -> the search.
      data, batch, placement, sizes: as for `compile_epoch`.
      say: called with one sentence where a layout does not fit.

    Returns:
      The first layout whose program fits, and that program; the last ones if none does.
    """
    compiled = lambda layout: compile_epoch(bound(layout), data, batch, placement, sizes)
    return first_that_fits(layouts, compiled, partial(_needed, data=data, placement=placement), _here(placement), say)


def first_that_fits(
    layouts: Sequence[Layout],
    compiled: Callable[[Layout], Program],
    needed: Callable[[Program], Need],
    room: Room,
    say: Callable[[str], None],
) -> tuple[Layout, Program]:
    """The first layout whose program fits; the last if none does, the first where the device does not tell its limit.

    Args:
      layouts: from what keeps most to what keeps least.
      compiled: layout -> program.
      needed: program -> bytes.
      room: memory of the device.
      say: called with one sentence where a layout does not fit.
    """
    for left in range(len(layouts), 0, -1):
        program = compiled(layout := layouts[-left])
        if left == 1:
            break
        need = needed(program)
        fits = room.limit is None or need.total <= room.limit
        wait(f"layout {left} is compiled")
        if everywhere(fits):
            break
        has = "another process has less" if fits else f"the device has {size(room.limit or 0)}"
        say(
            f"the supernet as it is laid out needs {size(need.total)}, {has}: it is compiled again, to keep fewer "
            "activations and compute them anew in the backward pass."
        )
    return layout, program


def what_it_needs(program: Program, data: Batches | Chunks, batch: int, placement: Placement) -> tuple[str, str]:
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


def _needed(program: Program, data: Batches | Chunks, placement: Placement) -> Need:
    found = need(program.memory_bytes, data, len(placement.devices))
    return found._replace(images=2 * found.images) if isinstance(data, Chunks) else found  # and the next chunk


def _here(placement: Placement) -> Room:
    """What a device of this process has left: its share of the machine's memory where they live in that."""
    local = jax.local_devices()
    return room(local[0], min(len(placement.devices), len(local)))
