"""Where a search runs: one device, all devices of this machine, or those of several.

Where in the river: under the step. The only file that knows devices; a `Placement` hands the others functions. Weights,
alpha and optimizer states lie whole on every device; images are dealt out, and so is every batch:

                   batch statistics        gradients                     pixel noise
    one            of the batch            as they are                   as it is
    mesh           of the whole batch      summed by the compiler        that of one device
    mesh_local     of the device's part    averaged after every pass     each device its own
    pmapped        as `mesh_local`, by `jax.pmap`; devices of one process only

`mesh` gives the numbers of `one` to rounding, on any number of devices. Gates are drawn from one key everywhere.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnas.agreement import Disagreement as Disagreement
from jaxnas.agreement import check_copies as check_copies
from jaxnas.compiler import options
from jaxnas.data import Batch, take
from jaxnas.processes import join as join
from jaxnas.processes import leads as leads
from jaxnas.processes import leave as leave
from jaxnas.processes import told_when_lost as told_when_lost
from jaxnas.processes import wait as wait

DATA = "data"  # the axis along which images are dealt out
SEED = "seed"  # that along which searches are


class Placement(NamedTuple):
    """How a search lies on devices."""

    name: str
    devices: tuple[jax.Device, ...]
    axis_name: str | None  # what `bind` averages over
    images: Callable[[Batch], Batch]  # from the host to the devices
    rows: Callable[[int], np.ndarray]  # number of images -> rows that the devices of this process hold
    take: Callable[[Batch, Array], Batch]  # inside the program: (images, rows [B]) -> the batch as its step sees it
    lower: Callable[..., Any]  # (run of an epoch, shapes of its state, images, key, start, stop) -> lowered
    spread: Callable[[Any], Any]  # a state or a key -> a copy on every device
    single: Callable[[Any], Any]  # back: the copy on the first device of this process

    def compile(self, run: Callable[..., Any], *shapes: Any) -> Any:
        """An epoch, compiled for these devices; the arguments are those of `lower`."""
        return self.lower(run, *shapes).compile(options())

    def at_least(self, batch: int) -> int:
        """The smallest batch of so many images that the devices can share evenly."""
        return -(-batch // len(self.devices)) * len(self.devices)

    def check_batch(self, batch: int) -> None:
        """Raises a ValueError where the devices cannot share a batch evenly."""
        count = len(self.devices)
        if batch % count:
            less, more = batch // count * count, self.at_least(batch)
            raise ValueError(
                f"batch={batch} cannot be dealt out to {count} devices: take {less or more} or {more} images, or one "
                "device (--devices one)."
            )


def one() -> Placement:
    """Everything on the default device."""
    lower = lambda run, *shapes: jax.jit(run, donate_argnums=0).lower(*shapes)
    same = lambda tree: tree
    images = lambda batch: jax.device_put(batch._replace(image=np.asarray(batch.image)))
    return Placement("one", (jax.devices()[0],), None, images, np.arange, take, lower, same, same)


def mesh(devices: Sequence[jax.Device] | None = None) -> Placement:
    """One program over a mesh (all devices unless given), with the statistics of whole batches; `one` on one device.

    Args:
      devices: which; of all processes.
    """
    found = _given(devices)
    if len(found) == 1:
        return one()._replace(devices=found)
    grid, whole, split = _grid(found)
    collect = partial(jax.shard_map, mesh=grid, in_specs=(P(DATA), P()), out_specs=P(DATA), check_vma=False)(_collect)

    def lower(run, state, images, *rest):
        shardings = (whole, split, *(whole for _ in rest))
        jitted = jax.jit(run, donate_argnums=0, in_shardings=shardings, out_shardings=whole)
        return jitted.lower(state, images, *rest)

    images, rows, spread = partial(_deal, split), partial(_held, split), partial(_spread, whole)
    return Placement("mesh", found, None, images, rows, collect, lower, spread, _first)


def mesh_local(devices: Sequence[jax.Device] | None = None) -> Placement:
    """As `mesh`, but every device normalises its part of a batch by its own statistics: much less to communicate.

    Args:
      devices: which, all unless given.
    """
    found = _given(devices)
    if len(found) == 1:
        return one()._replace(devices=found)
    grid, whole, split = _grid(found)

    def lower(run, state, images, *rest):
        specs = (P(), P(DATA), *(P() for _ in rest))
        shardings = tuple(NamedSharding(grid, spec) for spec in specs)
        mapped = jax.shard_map(run, mesh=grid, in_specs=specs, out_specs=P(), check_vma=False)
        return jax.jit(mapped, donate_argnums=0, in_shardings=shardings).lower(state, images, *rest)

    images, rows, spread = partial(_deal, split), partial(_held, split), partial(_spread, whole)
    return Placement("mesh-local", found, DATA, images, rows, _collect, lower, spread, _first)


def pmapped(devices: Sequence[jax.Device] | None = None) -> Placement:
    """By `jax.pmap` over the devices of this process; every array of the state has a leading axis of devices.

    Args:
      devices: which, all unless given.

    Raises:
      ValueError: where there are several processes.
    """
    if jax.process_count() > 1:
        raise ValueError("pmap is for the devices of one process: take --devices mesh with --distributed.")
    found = _given(devices)
    if len(found) == 1:
        return one()._replace(devices=found)
    (_, _, split), count = _grid(found), len(found)

    def images(batch: Batch) -> Batch:
        return Batch(*(_place(split, _filled(x, _even(len(x), split)).reshape(count, -1, *x.shape[1:])) for x in batch))

    def lower(run, state, images, key, start, stop):
        mapped: dict[str, Any] = {"in_axes": (0, 0, 0, None, None), "out_axes": (0, None, None), "donate_argnums": 0}
        state, key = jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), (state, key))
        return jax.pmap(run, DATA, devices=found, **mapped).lower(state, images, key, start, stop)

    spread = lambda tree: _spread(split, jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), tree))
    single = lambda tree: jax.device_put(jax.tree.map(lambda x: x[0], tree), found[0])
    return Placement("pmap", found, DATA, images, np.arange, _collect, lower, spread, single)


def grid(seeds: int, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The devices in groups, as many as searches run side by side: a mesh with the axes "seed" and "data".

    `over_seeds(search, seeds.sharded(grid(2), "seed"))` gives each half of the devices half of the keys. Batches
    [S, B, ...] that are dealt out along both axes, `P("seed", "data")`, are shared within a group, with the statistics
    of whole batches.

    Args:
      seeds: number of groups; each runs one search, or several one after another.
      devices: all unless given.

    Raises:
      ValueError: where the devices do not make so many equal groups.
    """
    found = _given(devices)
    if seeds < 1 or len(found) % seeds:
        fits = [number for number in range(1, len(found) + 1) if len(found) % number == 0]
        raise ValueError(f"{len(found)} devices do not make seeds={seeds} equal groups: take one of {fits}.")
    return Mesh(np.array(found).reshape(seeds, -1), (SEED, DATA))


def _given(devices: Sequence[jax.Device] | None) -> tuple[jax.Device, ...]:
    found = tuple(jax.devices() if devices is None else devices)
    if not found:
        raise ValueError(f"no devices given: choose some of {jax.devices()}.")
    return found


def _grid(devices: Sequence[jax.Device]) -> tuple[Mesh, NamedSharding, NamedSharding]:
    """The mesh, and on it: copies everywhere, rows dealt out."""
    grid = Mesh(np.array(devices), (DATA,))
    return grid, NamedSharding(grid, P()), NamedSharding(grid, P(DATA))


def _collect(part: Batch, rows: Array) -> Batch:
    """This device's share of the rows of all images: each device sends what it has, all get their own.

    Takes B images of communication, little beside the gradients, so that the order of an epoch is that of one device.
    """
    at = rows - lax.axis_index(DATA) * len(part.label)
    mine = (at >= 0) & (at < len(part.label))
    found = take(part, jnp.where(mine, at, 0))
    own = [jnp.where(mine.reshape(-1, *(1,) * (x.ndim - 1)), x, jnp.zeros((), x.dtype)) for x in found]
    return Batch(*(lax.psum_scatter(x, DATA, tiled=True) for x in own))


def _deal(split: NamedSharding, batch: Batch) -> Batch:
    """Rows in order, filled up to equal parts; each process asks for those of its own devices only."""

    size = _even(len(batch.label), split)

    def part(x: Any, index: Any) -> np.ndarray:
        found = np.asarray(x[index[0]])
        return _filled(found, len(range(size)[index[0]]))

    place = lambda x: jax.make_array_from_callback((size, *x.shape[1:]), split, partial(part, x))
    return Batch(*map(place, batch))


def _held(split: NamedSharding, count: int) -> np.ndarray:
    """Which of so many images `_deal` asks for in this process."""
    size = _even(count, split)
    slices = split.addressable_devices_indices_map((size,)).values()
    held = np.unique(np.concatenate([np.arange(size)[index] for index in slices]))
    return held[held < count]


def _even(count: int, split: NamedSharding) -> int:
    return -(-count // split.num_devices) * split.num_devices


def _filled(x: Any, size: int) -> np.ndarray:
    """So many rows, zeros behind the last."""
    return np.pad(x, [(0, size - len(x)), *[(0, 0)] * (np.ndim(x) - 1)])


def _place(sharding: NamedSharding, x: np.ndarray) -> Array:
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def _spread(sharding: NamedSharding, tree: Any) -> Any:
    """Arrays of this process, equal in all processes -> arrays of all of them; typed keys are welcome."""

    def one_leaf(leaf):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = _place(sharding, np.asarray(jax.random.key_data(leaf)))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        return _place(sharding, np.asarray(leaf))

    return jax.tree.map(one_leaf, tree)


def on_host(tree: Any) -> Any:
    """Numpy arrays; typed keys as the integers they are made of.

    Args:
      tree: arrays on any device.
    """
    is_key = lambda leaf: jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.device_get(jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, tree))


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)
