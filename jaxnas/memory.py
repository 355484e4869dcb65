"""What a run will need of a device's memory, told before its first epoch, and which knob to turn.

Where in the river: beside it. Knows sizes in bytes, what a device says about itself, and what the system says about
this machine; no step, no space.

    need = images + state + temporaries of a step

Temporaries are those of the compiled program and grow with the batch and the width; the state is given from step to
step, and is there once.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

_CGROUPS = (  # (limit, used): of the container that this process lives in
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


class Need(NamedTuple):
    """Bytes on one device."""

    images: int
    state: int  # weights, alpha, optimizers
    temporaries: int  # of a step

    @property
    def total(self) -> int:
        """All of it, which a step holds at once."""
        return sum(self)


class Room(NamedTuple):
    """Memory that a run may take."""

    free: int | None  # bytes; None where nobody knows
    limit: int | None = None  # bytes that the device can ever give; None where that is a guess


def need(program: Mapping[str, int], data: Any, devices: int = 1) -> Need:
    """What an epoch needs on each device.

    Args:
      program: bytes of the compiled program, `{"argument": ..., "temp": ...}`; its arguments are the state and the
        images. Empty where the compiler does not tell.
      data: all images, a pytree of arrays as the devices hold them.
      devices: how many share the images; the program's bytes are those of one of them.
    """
    images = sum(leaf.nbytes for leaf in jax.tree.leaves(data)) // devices
    return Need(images, max(0, program.get("argument", 0) - images), program.get("temp", 0))


def room(device: jax.Device, sharing: int = 1) -> Room:
    """What a device has left: by its own count, or its share of the machine's where so many devices live in that."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return Room(stats["bytes_limit"] - stats.get("bytes_in_use", 0), stats["bytes_limit"])
    free = free_here() if device.platform == "cpu" else None
    return Room(None if free is None else free // sharing)


def for_images(devices: Sequence[jax.Device] = ()) -> int:
    """Bytes that all images may take: a quarter of what this machine has left, and half of what the devices have.

    A quarter, since images are copied while they are dealt out, and a run needs memory besides. Where they would take
    more, they stay on disk.

    Args:
      devices: that will hold them; only the machine counts unless given.
    """
    here = free_here()
    found = [] if here is None else [here // 4]
    local = [device for device in devices if device.process_index == jax.process_index()]
    rooms = [room(device, len(local)).free for device in local]
    found += [sum(free for free in rooms if free is not None) // 2] if None not in rooms and rooms else []
    return min(found, default=sys.maxsize)


def free_here() -> int | None:
    """Bytes that this machine, or this container, has left for programs; None where the system does not tell."""
    found = [_available(), *(_left(limit, used) for limit, used in _CGROUPS)]
    return min((number for number in found if number is not None), default=None)


def told(needed: Need, room: Room, batch: int, devices: int = 1) -> tuple[str, str]:
    """One line on what a run needs on each of its devices, and a warning, empty where it fits.

    Images and state are on the device already when this is asked: the temporaries are still to come.

    Raises:
      MemoryError: where it cannot fit, as the device itself says.
    """
    free = f" of {size(room.free)} that are free" if room.free is not None else ""
    parts = f"a step {size(needed.temporaries)}, images {size(needed.images)}, state {size(needed.state)}"
    each = f" on each of {devices} devices" if devices > 1 else ""
    line = f"memory: {size(needed.total)} ({parts}){free}{each}"
    if room.limit is not None and needed.total > room.limit:
        raise MemoryError(f"{line}; the device has {size(room.limit)} in all. {knob(needed, batch)}")
    tight = room.free is not None and needed.temporaries > room.free
    return line, f"this may not fit into memory. {knob(needed, batch)}" if tight else ""


def knob(needed: Need, batch: int) -> str:
    """What to turn: the sentence for the largest part."""
    if needed.images == max(needed):
        return "Most of it are the images: take a part of them (--fraction), or smaller ones."
    if needed.state == max(needed):
        return "Most of it are weights and optimizers: take fewer --channels, or less --depth."
    smaller = f"--batch {batch // 2} needs about half of that; " if batch > 1 else ""
    return (
        f"Most of it are the activations of a step: {smaller}fewer --channels need less in proportion; "
        "of the layouts of the supernet, in-loops keeps least."
    )


def size(count: int) -> str:
    """Bytes for people."""
    for unit, worth in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= worth:
            return f"{count / worth:.3g} {unit}" if count < 1000 * worth else f"{count / worth:,.0f} {unit}"
    return f"{count} bytes"


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, ValueError, StopIteration):
        return None


def _left(limit: str, used: str) -> int | None:
    try:
        return max(0, int(Path(limit).read_text(encoding="ascii")) - int(Path(used).read_text(encoding="ascii")))
    except (OSError, ValueError):  # no such group, or its limit is the word "max"
        return None
