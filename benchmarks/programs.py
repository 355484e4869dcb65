"""Programs that can be compiled for any device, described by names and numbers, and written for it.

A description is plain data, so that it can be sent to a process of its own. Only shapes are traced: nothing runs.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import SingleDeviceSharding

from benchmarks.build import LENGTH, PRECISIONS, named
from jaxnas import parallel
from jaxnas.augmentation import Statistics
from jaxnas.data import Batch
from jaxnas.evaluation import recipes, training
from jaxnas.hypergradient import Batches
from jaxnas.names import PUBLISHED, RECIPES, SPACES, STAGES, STRATEGIES, build, network_space
from jaxnas.search import Search, bind
from jaxnas.seeds import mapped, over_seeds, vmapped
from jaxnas.spaces import layout
from jaxnas.spaces.network import network
from jaxnas.spaces.networks import Model, supernet
from jaxnas.spaces.space import Gates, Space
from jaxnas.strategies.mixing import Mixing
from jaxnas.strategies.strategy import Strategy

LAYOUTS: dict[str, layout.Layout | None] = {
    "default": None,  # what `supernet` chooses where it runs
    "recomputed": layout.Layout(layout.recomputed()),
    "scanned": layout.Layout(layout.scanned()),
    "scanned-kept": layout.Layout(layout.scanned(1, layout.kept)),
    "fanned": layout.Layout(layout.fanned()),
    "fanned-kept": layout.Layout(layout.fanned(layout.kept)),
    "side-by-side": layout.for_accelerators(),
    "side-by-side-recomputed": layout.for_accelerators(jax.checkpoint),
    "side-by-side-cells-in-a-loop": layout.for_accelerators()._replace(cells=1),
    "side-by-side-one-pass": layout.for_accelerators()._replace(one_pass=True),
}
PLACEMENTS: dict[str, Callable[[Sequence[Any]], parallel.Placement]] = {
    "mesh": parallel.mesh,
    "mesh-local": parallel.mesh_local,
    "pmap": parallel.pmapped,
}
AXES = {"mapped": mapped, "vmapped": vmapped}
DTYPES = ("float32", "bfloat16")


class Program(NamedTuple):
    """One step of a search or, where a genotype is named, of a retraining."""

    strategy: str = "darts-first-order"
    space: str = "darts"
    stage: int = 0  # of a row that searches in stages, from 1; 0: the whole row in one
    genotype: str = ""  # a published cell to retrain
    recipe: str = "cifar"  # how
    channels: int = 16
    depth: int = 8  # cells, or cells for each stage of the network
    batch: int = 64  # images, over all devices; a search takes as many again for alpha
    side: int = 32  # of the images, pixels
    dtype: str = "float32"  # of the images, hence of the activations
    layout: str = "default"
    precision: str = "default"  # of products of float32
    seeds: int = 1
    axis: str = "mapped"  # how several seeds share the device
    devices: int = 1
    placement: str = "mesh"  # how several devices share a step


def title(program: Program) -> str:
    """A program in one line; what is as usual is left out."""
    usual = Program()
    what = f"{program.genotype}, {program.recipe}" if program.genotype else f"{program.strategy}, {program.space}"
    what += f", stage {program.stage}" if program.stage else ""
    size = f"C={program.channels}, depth {program.depth}, batch {program.batch}"
    rest = [f"{program.side}x{program.side}"] if program.side != usual.side else []
    rest += [f"{n} {v}" for n in ("dtype", "layout", "precision") if (v := getattr(program, n)) != getattr(usual, n)]
    rest += [f"{program.seeds} seeds {program.axis}"] if program.seeds > 1 else []
    rest += [f"{program.devices} devices, {program.placement}"] if program.devices > 1 else []
    return ", ".join([what, size, *rest])


class Written(NamedTuple):
    """A program in the form that a compiler takes."""

    lowered: Any  # jax.stages.Lowered
    activation: int  # bytes of the smallest state of the network on one device


def check(program: Program) -> None:
    """Raises a ValueError for names that nothing is called and numbers that contradict each other."""
    tables: dict[str, Any] = {"strategy": STRATEGIES, "space": SPACES, "layout": LAYOUTS, "axis": AXES}
    tables |= {"placement": PLACEMENTS, "recipe": RECIPES, "precision": {"default": None, **PRECISIONS}}
    tables |= {"dtype": dict.fromkeys(DTYPES), "genotype": {"": None, **PUBLISHED}}
    for field, table in tables.items():
        named(table, getattr(program, field), field)
    least = [
        field for field in ("channels", "depth", "batch", "side", "seeds", "devices") if getattr(program, field) < 1
    ]
    if least:
        raise ValueError(f"{', '.join(f'{field}={getattr(program, field)}' for field in least)}: at least 1 each.")
    stages = len(STAGES[program.strategy].growth) if program.strategy in STAGES else 0
    if not 0 <= program.stage <= stages:
        raise ValueError(f"stage={program.stage}: {program.strategy} has {stages or 'no'} stages; 0 is the whole row.")
    if program.seeds > 1 and (program.devices > 1 or program.genotype):
        raise ValueError("several seeds are compiled for searches on one device: leave out --devices or --seeds.")
    if program.batch % program.devices:
        raise ValueError(f"batch={program.batch} cannot be dealt out to {program.devices} devices.")


def write(program: Program, devices: Sequence[Any]) -> Written:
    """Traces and lowers a program for devices; sets JAX's precision of products for the process.

    Args:
      program: what to lower.
      devices: as many as it asks for; they need not be there.
    """
    check(program)
    if program.layout == "default":
        program = program._replace(layout="recomputed" if devices[0].platform == "cpu" else "side-by-side")
    if program.precision != "default":
        jax.config.update("jax_default_matmul_precision", PRECISIONS[program.precision])
    placement = PLACEMENTS[program.placement](devices) if program.devices > 1 else None
    axis_name = placement.axis_name if placement else None
    space, init, step = (_retraining if program.genotype else _search)(program, axis_name)
    split = program.batch // program.devices
    activation = smallest_state(space) * split * jnp.dtype(program.dtype).itemsize
    if placement is None:
        return Written(_alone(program, devices[0], init, step), activation)
    return Written(_shared(program, placement, init, step), activation)


def smallest_state(space: Space) -> int:
    """Numbers in the smallest output of a node, of one image."""
    height, width, _ = space.image
    stride, sizes = space.stem_stride, []
    for layer in space.skeleton:
        stride *= layer.stride
        sizes.append(-(-height // stride) * -(-width // stride) * layer.channels)
    return min(sizes)


# ---------------------------------------------------------------------------------------------- what is compiled


def _search(program: Program, axis_name: str | None):
    row, space = strategy_and_space(program)
    search = bound(row, space, program, axis_name)
    if program.seeds == 1:
        return space, search.init, search.step
    many = over_seeds(search, AXES[program.axis])
    return space, many.init, many.step


def bound(row: Strategy, space: Space, program: Program, axis_name: str | None = None) -> Search:
    """The search whose step is compiled: the layout of its supernet is chosen here."""

    def model(space: Space, mixing: Mixing) -> Model:
        chosen = LAYOUTS[program.layout]
        return supernet(space, mixing) if chosen is None else supernet(space, mixing, chosen)

    return bind(row, space, model=model, augment=_standardised(program.dtype), axis_name=axis_name)


def _standardised(dtype: str):
    """The least that a search does to stored images: standardise, and round to the type of the network."""

    def augment(key: Array, images: Array) -> Array:
        del key
        return ((images.astype(jnp.float32) - 128.0) / 64.0).astype(dtype)

    return augment


def strategy_and_space(program: Program) -> tuple[Strategy, Space]:
    """The row and its space; in a later stage, the space that scores drawn from a fixed key leave over."""
    chosen, row = SPACES[program.space], STRATEGIES[program.strategy]
    make = partial(chosen.make, classes=10, image=(program.side, program.side, 3))
    if not program.stage:
        method = partial(row, **chosen.settings.get(row, {}))(LENGTH)
        return method.replace(decode=chosen.decode(method.decode)), make(program.channels, program.depth)
    told = STAGES[program.strategy]
    spaces = [make(program.channels, round(program.depth * part)) for part in told.growth]
    stages = told.make(spaces, LENGTH, **chosen.settings.get(told.make, {}))[: program.stage]
    space, scores = spaces[0], None
    for stage in stages:
        space = stage.reshape(space, scores)
        scores = _drawn(space)
    method = stages[-1].strategy
    return method.replace(decode=chosen.decode(method.decode)), space


def _drawn(space: Space):
    """Gates of every cell, uniform from a fixed key."""

    rng, shape = np.random.default_rng(0), (len(space.edges), len(space.ops))
    return {cell: Gates(jnp.asarray(rng.random(shape)), jnp.ones(shape[0])) for cell in space.cells}


def _retraining(program: Program, axis_name: str | None):
    recipe = RECIPES[program.recipe]
    made = build(program.space, program.recipe, program.channels, program.depth)
    classes = 1000 if program.recipe.startswith("imagenet") else 10
    image = (program.side, program.side, 3)
    space = network_space(made.name)(made.channels, made.depth, classes, image=image)
    net = network(PUBLISHED[program.genotype], space, auxiliary=recipe.auxiliary > 0)
    stored = recipes.augment(recipe, Statistics(np.full(3, 128.0), np.full(3, 64.0)))
    augment = lambda key, images: stored(key, images).astype(program.dtype)
    trained = training.bind(net, recipe, LENGTH, augment=augment, axis_name=axis_name)
    return space, trained.init, trained.step


# ---------------------------------------------------------------------------------------------- for which devices


def _alone(program: Program, device: Any, init: Callable, step: Callable):
    """The step on one device, its batches arguments."""
    here = SingleDeviceSharding(device)
    lead = (program.seeds,) if program.seeds > 1 else ()
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(init, jax.ShapeDtypeStruct(lead, key.dtype))
    batch = _images(program, *lead, program.batch)
    batches = batch if program.genotype else Batches(batch, batch)
    return jax.jit(step, in_shardings=here, out_shardings=here, donate_argnums=0).trace(state, batches).lower()


def _shared(program: Program, placement: parallel.Placement, init: Callable, step: Callable):
    """The step as an epoch on several devices holds it: each collects its part of the batch from all of them."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    number = jax.ShapeDtypeStruct((), jnp.int32)
    count = (
        (program.devices, 2 * program.batch // program.devices) if placement.name == "pmap" else (2 * program.batch,)
    )
    half = _images(program, *count)
    stored = half if program.genotype else Batches(half, half)

    def run(state, data, key, start, stop):
        del key, stop
        rows = (start * program.batch + jnp.arange(program.batch, dtype=jnp.int32)) % (2 * program.batch)
        batches = jax.tree.map(lambda part: placement.take(part, rows), data, is_leaf=_is_batch)
        return *step(state, batches), start  # an epoch has a third result

    return placement.lower(run, jax.eval_shape(init, key), stored, key, number, number)


def _is_batch(tree: Any) -> bool:
    return isinstance(tree, Batch)


def _images(program: Program, *count: int) -> Batch:
    """Shapes of stored images and labels."""
    shape: Callable[..., Any] = jax.ShapeDtypeStruct
    return Batch(shape((*count, program.side, program.side, 3), jnp.uint8), shape(count, jnp.int32))
