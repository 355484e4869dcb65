"""How good is the official second-order gradient? Exact against finite difference along a real search.

Paper: Liu et al. 2019, arXiv:1806.09055, equations 7 and 8. Every few steps of an exact second-order search the
implicit term of the hypergradient is computed twice at the same weights: exactly, and by the official central
difference with several radii (the official one is 0.01 / |v|).

    python experiments/exactness.py                                     # digits; some minutes, most of them compiling
    python experiments/exactness.py --dataset cifar10 --data-dir DIR    # the same on CIFAR-10

Writes exactness.json and exactness.png into --out, and prints a table in Markdown.
"""

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import optax
import typer
from matplotlib.figure import Figure

from jaxnas import augmentation, data, drawing
from jaxnas.cli import keep_compiled_programs
from jaxnas.folder import write
from jaxnas.hypergradient import INNER, OUTER, Batches, finite_difference, one_pass, through, unrolled
from jaxnas.search import bind
from jaxnas.spaces.darts import darts as darts_space
from jaxnas.strategies.algorithms import darts
from jaxnas.strategies.optimizers import heavy_ball

RADII = (1e-1, 1e-2, 1e-3, 1e-4)
OFFICIAL = 1e-2


def flat(tree) -> jax.Array:
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])


def agreement(estimate, exact) -> dict[str, jax.Array]:
    """Cosine of two gradients, and |estimate - exact| / |exact|."""
    a, b = flat(estimate), flat(exact)
    return {
        "cosine": a @ b / jnp.maximum(jnp.linalg.norm(a) * jnp.linalg.norm(b), 1e-30),
        "error": jnp.linalg.norm(a - b) / jnp.maximum(jnp.linalg.norm(b), 1e-30),
    }


def compare(search, ahead, state, batches, radii):
    """For every radius: agreement of the implicit term, and of the whole gradient."""
    problem, s = search.problem(state), state.bilevel
    _, (g, _) = one_pass(problem, INNER, s.weights, s.alpha, batches.train)
    _, (v, direct) = one_pass(problem, OUTER, ahead(s.weights, g, s.weights_opt), s.alpha, batches.valid)
    exact = unrolled(ahead).indirect(problem, s, batches, g, v)
    whole = optax.tree.add(direct, exact)

    def at(radius):
        estimate = finite_difference(ahead, radius).indirect(problem, s, batches, g, v)
        return {
            "implicit": agreement(estimate, exact),
            "whole": agreement(optax.tree.add(direct, estimate), whole),
        }

    share = jnp.linalg.norm(flat(exact)) / jnp.linalg.norm(flat(whole))
    return jax.lax.map(at, radii), share


def recipe(dataset: str, data_dir, channels: int, batch: int, steps: int, every: int, out: Path, seed: int = 0):
    """Searches, compares every few steps, and gives one row for each comparison."""
    full = data.load(dataset, data_dir)
    parts = data.split(full, seed=seed)
    space = darts_space(channels, 5, full.classes, image=full.train.image.shape[1:])
    strategy = darts(steps)
    augment = augmentation.default_augmentation(full, augmentation.statistics(parts.train))
    search = bind(strategy, space, augment=augment)
    ahead = through(heavy_ball(0.025, momentum=0.9, decay=3e-4), part=lambda state: state[1])
    state = jax.jit(search.init)(jax.random.key(seed))
    step, look = jax.jit(search.step), jax.jit(partial(compare, search, ahead))
    orders = [np.random.default_rng(seed + i).permutation(len(half.label)) for i, half in enumerate(parts[:2])]
    rows = []
    for t in range(steps):
        at = [np.take(order, np.arange(t * batch, (t + 1) * batch), mode="wrap") for order in orders]
        batches = Batches(*(data.take(half, jnp.asarray(i)) for half, i in zip(parts[:2], at, strict=True)))
        if t % every == 0:
            found, share = jax.device_get(look(state, batches, jnp.asarray(RADII)))
            rows += [row(t, i, found, share) for i in range(len(RADII))]
            print(json.dumps(rows[-len(RADII) + RADII.index(OFFICIAL)]), flush=True)
        state, metrics = step(state, batches)
    out.mkdir(parents=True, exist_ok=True)
    told = {"dataset": dataset, "channels": channels, "batch": batch, "loss": float(metrics["train"]["loss"])}
    write(out / "exactness.json", json.dumps({**told, "rows": rows}, indent=1) + "\n")
    drawing.save(picture(rows), out / "exactness.png")
    print(table(rows))
    return rows


def row(step: int, i: int, found, share) -> dict[str, float]:
    numbers = {f"{part}_{name}": float(value[i]) for part, n in found.items() for name, value in n.items()}
    return {"step": step, "radius": RADII[i], "share": float(share), **numbers}


def table(rows) -> str:
    """Medians over the search, one line for each radius, in Markdown."""
    lines = [
        "| radius | cosine, implicit term | relative error, implicit term | cosine, whole gradient |",
        "|" + " --- |" * 4,
    ]
    for radius in RADII:
        mine = [r for r in rows if r["radius"] == radius]
        median = lambda name, mine=mine: np.median([r[name] for r in mine])
        official = " (official)" if radius == OFFICIAL else ""
        lines.append(
            f"| {radius:g}{official} | {median('implicit_cosine'):.3f} | {median('implicit_error'):.2f} "
            f"| {median('whole_cosine'):.3f} |"
        )
    return "\n".join(lines)


def picture(rows) -> Figure:
    """Cosine and relative error over the steps, one line for each radius."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, name, label in zip(
        figure.subplots(1, 2),
        ("implicit_cosine", "implicit_error"),
        ("cosine to the exact implicit term", "relative error of the implicit term"),
        strict=True,
    ):
        for radius in RADII:
            mine = [r for r in rows if r["radius"] == radius]
            style = {"linewidth": 2.5} if radius == OFFICIAL else {"linewidth": 1}
            told = f"R = {radius:g} / |v|" + (" (official)" if radius == OFFICIAL else "")
            axes.plot([r["step"] for r in mine], [r[name] for r in mine], marker=".", label=told, **style)
        axes.set_xlabel("search step")
        axes.set_title(label, fontsize=10)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylim(-1.05, 1.05)
    figure.axes[1].set_yscale("log")
    figure.axes[1].legend(fontsize=8)
    return figure


def main(
    dataset: Annotated[str, typer.Option(help="digits, or a TFDS name.")] = "digits",
    data_dir: Annotated[Path | None, typer.Option(help="Folder with prepared TFDS data sets.")] = None,
    channels: int = 4,
    batch: int = 32,
    steps: int = 41,
    every: int = 4,
    seed: int = 0,
    out: Path = Path("runs/exactness"),
) -> None:
    """Exact against finite-difference second order, along a real search."""
    keep_compiled_programs()
    recipe(dataset, data_dir, channels, batch, steps, every, out, seed)


if __name__ == "__main__":
    typer.run(main)
