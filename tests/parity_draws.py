"""Hard gates of given Gumbel noise, and what their gradient is under three conventions."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from parity_lines import Line, Tensors, batch, beside, close, equal, load, part

from jaxnas.interop import from_torch
from jaxnas.spaces.darts import darts
from jaxnas.spaces.networks import supernet
from jaxnas.spaces.space import CellGates, Space
from jaxnas.strategies.draws import hard_gates
from jaxnas.strategies.mixing import broadcast, selected_only, straight_through


def noise_of(cells: Iterable[str], z: Tensors, prefix: str = "") -> dict[str, jax.Array]:
    """Gumbel noise by cell type, from the exponential noise that the official code draws."""
    names = {cell: prefix + ("exp_noise" if cell == "cell" else f"exp_noise/{cell}") for cell in cells}
    return {cell: -jnp.log(jnp.asarray(z[name])) for cell, name in names.items()}


def drawn(space: Space, noise: Mapping, tau: float) -> Callable:
    """alpha -> gates of the given noise."""
    return lambda alpha: {c: hard_gates(noise[c], alpha[c], space.mask(c), jnp.asarray(tau)) for c in space.cells}


def draws(prefix: str, z: Tensors, gates: CellGates, alpha: Mapping, tau: float) -> Iterator[Line]:
    """Which operation each edge drew, and from which probabilities; files of one cell type do not name it."""
    for cell, noise in noise_of(gates, z, prefix).items():
        suffix = "" if cell == "cell" else f"/{cell}"
        yield equal(f"{prefix}draw, {cell}", gates[cell].ops.argmax(-1).tolist(), z[f"{prefix}index{suffix}"].tolist())
        found = jax.nn.softmax((alpha[cell] + noise) / tau, -1)
        yield close(f"{prefix}probabilities, {cell}", found, z[f"{prefix}probs{suffix}"])


def conventions_file(z: Tensors, meta: Mapping, folder: Path) -> Iterator[Line]:
    """Hard gates on the DARTS space under the three conventions of their gradient, at several temperatures."""
    start = load(beside(folder, re.search(r"B_\w+\.npz", meta["note"]).group()))
    meta, images = json.loads(str(start["__meta__"])), batch(start["x"], start["y"])
    space = darts(meta["C"], meta["layers"], start["logits"].shape[1], image=images.image.shape[1:])
    weights = jax.tree.map(jnp.asarray, from_torch(space, part(start, "w/")))
    alpha = jax.tree.map(jnp.asarray, {cell: start[f"arch/alphas_{cell}"] for cell in space.cells})
    mixings = {"selected_only": selected_only(), "broadcast": broadcast(), "full_st": straight_through()}
    modes = [mode for mode in mixings if any(f"/{mode}/" in key for key in z)]
    for mode in modes:
        net = supernet(space, mixings[mode])

        def loss(weights, alpha, noise, tau, net=net):
            logits = net.apply(weights, images.image, drawn(space, noise, tau)(alpha), jax.random.key(0), jnp.int32(0))
            return optax.softmax_cross_entropy_with_integer_labels(logits, images.label).mean(), logits

        compiled = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
        for name in sorted({key.split("/")[0] for key in z if key.startswith("tau")}):
            tau, noise = float(name.removeprefix("tau")), noise_of(space.cells, z, f"{name}/")
            (value, logits), (g, slope) = compiled(weights, alpha, noise, tau)
            yield close(f"{name}, {mode}: logits", logits, z[f"{name}/logits"])
            yield close(f"{name}, {mode}: loss", value, z[f"{name}/loss"])
            whole = f"{name}/{mode}/gnorm_total"
            yield close(f"{name}, {mode}: norm of all weight gradients", optax.tree.norm(g), z[whole])
            for cell in space.cells:
                theirs = z[f"{name}/{mode}/garch/{cell}"]
                yield close(f"{name}, {mode}: alpha gradient, {cell}", slope[cell], theirs)
            if mode == modes[0]:
                yield from draws(f"{name}/", z, drawn(space, noise, tau)(alpha), alpha, tau)
