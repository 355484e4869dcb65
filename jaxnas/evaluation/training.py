"""Training a network from scratch, and its accuracy on images that it has not seen: pure functions.

Where in the river: behind the second waist. `bind` puts a network and a recipe together as `search.bind` does for a
search; `compile_epoch` makes an epoch one program, `compile_test` a whole test. Knows no files and no clock;
`retraining.fit` is the loop around it.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.tree_util import Partial

from jaxnas.compiler import options
from jaxnas.data import Batch, epoch_rows, take
from jaxnas.epoch import Program, Told, compile_stretch, steps_per_epoch, stretch
from jaxnas.evaluation.recipes import Recipe, drop_rate, optimizer, scaling
from jaxnas.feeding import Chunks, in_order, in_turn
from jaxnas.hoisting import called, hoisted, tree_of
from jaxnas.parallel import Placement, one
from jaxnas.search import Augment
from jaxnas.spaces.network import Network, Variables, drop_paths

Metrics = dict[str, dict[str, Array]]


class TrainState(NamedTuple):
    """Everything a training carries: the whole checkpoint."""

    key: Array
    step: Array  # [] int32
    variables: Variables
    optimizer: optax.OptState


class Training(NamedTuple):
    """A network bound to a recipe."""

    init: Callable[[Array], TrainState]  # key -> state
    step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]]  # pure; you jit it
    network: Network


def cross_entropy(logits: Array, labels: Array, smoothing: float = 0.0) -> Array:
    """Mean over images of -sum_k q_k log p_k with q = (1 - s) onehot + s / K.

    Args:
      logits: [B, K].
      labels: [B] int.
      smoothing: s, in [0, 1).

    Reference: Szegedy et al. 2016, arXiv:1512.00567, section 7; quark0/darts, `train_imagenet.py`.
    """
    if not smoothing:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    target = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype), smoothing)
    return optax.softmax_cross_entropy(logits, target).mean()


def bind(
    network: Network,
    recipe: Recipe,
    every: int,
    *,
    augment: Augment = lambda key, images: images,
    axis_name: str | None = None,
) -> Training:
    """A training as pure functions: loss = CE(logits) + auxiliary CE(second logits).

    Args:
      network: what is trained; with a second head where the recipe weighs one.
      recipe: how.
      every: steps in an epoch.
      augment: (key, images [B, H, W, C] as they are stored) -> float images; runs inside the step.
      axis_name: mapped axis over which gradients, running statistics and metrics are averaged; none on one device.

    Returns:
      `Training`; metrics are {"train": {"loss", "accuracy", "grad_norm", "moves"}}, scalars; the loss is what is
      minimised, the gradient's norm that before clipping.

    Reference: quark0/darts, `cnn/train.py`, `train`.
    """
    made = lambda numbers: _bound(network, recipe, every, numbers[0], numbers[1], axis_name)
    own = scaling(recipe)
    arrays = {name: np.asarray(value, jnp.result_type(float)) for name, value in own.items()}
    return hoisted(made((augment, own)), made, (tree_of(augment), arrays), ("step",))


def _bound(network: Network, recipe: Recipe, every: int, augment: Augment, numbers, axis_name) -> Training:
    tx = optimizer(recipe, every, numbers)
    mean = (lambda tree: tree) if axis_name is None else partial(lax.pmean, axis_name=axis_name)

    def loss(weights, statistics, batch: Batch, key: Array, step: Array):
        key_augment, key_paths = jax.random.split(key)
        images = augment(key_augment, batch.image)
        rate = drop_rate(recipe, step // every)
        paths = drop_paths(key_paths, network, len(images), rate) if recipe.drop_path else None
        logits, second, statistics = network.train(Variables(weights, statistics), images, paths)
        error = cross_entropy(logits, batch.label, recipe.smoothing)
        if recipe.auxiliary:
            if second is None:
                raise ValueError("the recipe weighs a second head: build the network with auxiliary=True.")
            error += recipe.auxiliary * cross_entropy(second, batch.label, recipe.smoothing)
        accuracy = (logits.argmax(-1) == batch.label).mean(dtype=error.dtype)
        return error, (statistics, accuracy)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        if axis_name is not None:  # pixels and dropped edges differ between devices
            key = jax.random.fold_in(key, lax.axis_index(axis_name))
        weights, statistics = state.variables
        graded = jax.value_and_grad(loss, has_aux=True)(weights, statistics, batch, key, state.step)
        (error, (statistics, accuracy)), gradient = mean(graded)
        with jax.numpy_dtype_promotion("standard"):  # optax divides by integer counters
            updates, moved = tx.update(gradient, state.optimizer, weights)
            norm = optax.tree.norm(gradient)
        variables = Variables(optax.apply_updates(weights, updates), statistics)
        metrics = {"loss": error, "accuracy": accuracy, "grad_norm": norm, "moves": jnp.ones_like(error)}
        return TrainState(state.key, state.step + 1, variables, moved), {"train": metrics}

    def init(key: Array) -> TrainState:
        key_weights, key_steps = jax.random.split(key)
        variables = network.init(key_weights)
        return TrainState(key_steps, jnp.zeros((), jnp.int32), variables, tx.init(variables.weights))

    return Training(init, step, network)


def compile_epoch(
    training: Training, data: Batch | Chunks, batch: int, placement: Placement | None = None, size: int | None = None
) -> Program:
    """Compiles any stretch `start <= step < stop` of an epoch, once; the state's buffers are donated.

    Args:
      training: what to run.
      data: all training images on the devices, or chunks of them, as `feeding.placed` returns them.
      batch: images in a batch, over all devices; the last batch of an epoch is filled up from the front of its
        permutation.
      placement: where it runs; on one device unless given. The training is bound to its `axis_name`.
      size: number of images, where the placement has filled them up.
    """
    placement, size = placement or one(), size or _count(data)
    placement.check_batch(batch)
    order = lambda key: [epoch_rows(key, size, batch)]
    step = jax.jit(called)  # traced once, inlined

    def run(state: TrainState, images: Batch, told: Told, start: Array, stop: Array):
        rows, mine = order(told.key)[0], partial(step, told.functions)
        chunk = lambda i: in_turn(images, i, batch, placement)
        batches = chunk if isinstance(data, Chunks) else lambda i: placement.take(images, rows[i])
        return stretch(mine, batches, state, start, stop, lambda state: (state.step, ()))

    state = jax.eval_shape(training.init, jax.random.key(0))
    program = compile_stretch(run, state, data, training.step, placement, order, steps_per_epoch(size, batch))
    return program._replace(step_of=lambda state: state.step)


Test = Callable[[Variables], dict[str, float]]


def compile_test(network: Network, prepare: Augment, data: Batch | Chunks, batch: int) -> Test:
    """A compiled variables -> {"accuracy", "loss"}: exact means over all images, by the running statistics.

    Args:
      network: whose `apply` gives the logits.
      prepare: (key, images as they are stored) -> float images, without noise.
      data: images and labels, on the device, or chunks of them.
      batch: images at a time; the last batch is filled up, and what fills it is not counted.

    Returns:
      A function of the host. Correct images are counted in integers, losses are summed in float64 over batches.
    """
    size, steps = _count(data), data.steps if isinstance(data, Chunks) else steps_per_epoch(_count(data), batch)

    def run(variables: Variables, data: Batch, first: Array, prepare: Partial):
        def one(rows: Array):
            part, counts = take(data, jnp.minimum(rows, len(data.label) - 1)), first + rows < size
            logits = network.apply(variables, prepare(jax.random.key(0), part.image))
            errors = optax.softmax_cross_entropy_with_integer_labels(logits, part.label)
            return jnp.where(counts, errors, 0).sum(), (counts & (logits.argmax(-1) == part.label)).sum()

        return lax.map(one, jnp.arange(steps * batch, dtype=jnp.int32).reshape(-1, batch))

    key, number, plain = jax.eval_shape(lambda: jax.random.key(0)), np.int32(0), tree_of(prepare)
    shapes = data.shapes() if isinstance(data, Chunks) else data
    compiled = jax.jit(run).lower(jax.eval_shape(network.init, key), shapes, number, plain).compile(options())

    def test(variables: Variables) -> dict[str, float]:
        parts = in_order(data, batch)
        found = [jax.device_get(compiled(variables, part, np.int32(first), plain)) for first, part in parts]
        errors, right = (np.concatenate(part) for part in zip(*found, strict=True))
        return {"accuracy": int(right.sum()) / size, "loss": float(errors.sum(dtype=np.float64)) / size}

    return test


def _count(data: Batch | Chunks) -> int:
    return len((data.halves if isinstance(data, Chunks) else data).label)


def told(means: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """{"train": {"loss": ...}} -> {"train_loss": ...}, as records have them.

    Args:
      means: {part: {measure: number}}.
    """
    return {f"{part}_{name}": value for part, found in means.items() for name, value in found.items()}
