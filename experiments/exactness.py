"""How good is the official second-order gradient? Exact against finite difference along a real search.

Paper: Liu et al. 2019, arXiv:1806.09055, equations 7 and 8. Every few steps of an exact second-order search the
implicit term of the hypergradient is computed twice at the same weights: exactly, and by the official central
difference with several radii (the official one is 0.01 / |v|); and again on larger and smaller batches, whose first
images are those that the search steps with.

    python -m experiments.exactness                                     # digits; some minutes, most of them compiling
    python -m experiments.exactness --dataset cifar10 --data-dir DIR --batches 8,32,128
    python -m experiments.exactness --smoke                             # two steps

Writes exactness.json and exactness.png into --out, and prints a table in Markdown.
"""

import json
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import optax
import typer
from matplotlib.figure import Figure

from jaxnas import augmentation, data, drawing, spaces
from jaxnas.cache import keep_programs
from jaxnas.folder import write
from jaxnas.hypergradient import INNER, OUTER, Batches, finite_difference, one_pass, through, unrolled
from jaxnas.record import environment
from jaxnas.search import bind
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


def recipe(full: data.Dataset, make_space, batch: int, sizes: Sequence[int], steps: int, every: int, out: Path, seed=0):
    """Searches, compares every few steps on batches of several sizes, and gives one row for each comparison."""
    parts = data.split(full, seed=seed)
    space = make_space(classes=full.classes, image=full.train.image.shape[1:])
    strategy = darts(steps)
    augment = augmentation.default_augmentation(full, augmentation.statistics(parts.train))
    search = bind(strategy, space, augment=augment)
    ahead = through(heavy_ball(0.025, momentum=0.9, decay=3e-4), part=lambda state: state[1])
    state = jax.jit(search.init)(jax.random.key(seed))
    step, look = jax.jit(search.step), jax.jit(partial(compare, search, ahead))
    orders = [np.random.default_rng(seed + i).permutation(len(half.label)) for i, half in enumerate(parts[:2])]
    rows = []

    def batches(t: int, size: int) -> Batches:
        at = [np.take(order, np.arange(t * batch, t * batch + size), mode="wrap") for order in orders]
        return Batches(*(data.take(half, jnp.asarray(i)) for half, i in zip(parts[:2], at, strict=True)))

    for t in range(steps):
        for size in sizes if t % every == 0 else ():
            found, share = jax.device_get(look(state, batches(t, size), jnp.asarray(RADII)))
            rows += [row(t, size, i, found, share) for i in range(len(RADII))]
            print(json.dumps(rows[-len(RADII) + RADII.index(OFFICIAL)]), flush=True)
        state, metrics = step(state, batches(t, batch))
    out.mkdir(parents=True, exist_ok=True)
    told = {"dataset": full.name, "space": space.name, "batch": batch, "steps": steps, "seed": seed}
    told |= {"loss": float(metrics["train"]["loss"]), **environment()}
    write(out / "exactness.json", json.dumps({**told, "rows": rows}, indent=1) + "\n")
    drawing.save(picture(rows), out / "exactness.png")
    print(table(rows))
    return rows


def row(step: int, batch: int, i: int, found, share) -> dict[str, float]:
    numbers = {f"{part}_{name}": float(value[i]) for part, n in found.items() for name, value in n.items()}
    return {"step": step, "batch": batch, "radius": RADII[i], "share": float(share), **numbers}


def table(rows) -> str:
    """Medians over the search, one line for each size of batch and radius, in Markdown."""
    lines = [
        "| batch | radius | n | cosine, implicit term (quartiles) | its error | its share | cosine, whole |",
        "|" + " --- |" * 7,
    ]
    for batch, radius in product(dict.fromkeys(r["batch"] for r in rows), RADII):
        mine = [r for r in rows if (r["batch"], r["radius"]) == (batch, radius)]
        at = lambda name, q=50, mine=mine: np.percentile([r[name] for r in mine], q)
        official = " (official)" if radius == OFFICIAL else ""
        quartiles = f"({at('implicit_cosine', 25):.3f} to {at('implicit_cosine', 75):.3f})"
        lines.append(
            f"| {batch} | {radius:g}{official} | {len(mine)} | {at('implicit_cosine'):.3f} {quartiles} "
            f"| {at('implicit_error'):.2f} | {at('share'):.2f} | {at('whole_cosine'):.3f} |"
        )
    return "\n".join(lines)


def by_step(rows) -> str:
    """The official radius, one line for each size of batch and step, in Markdown."""
    lines = ["| batch | step | cosine, implicit term | its error | its share | cosine, whole |", "|" + " --- |" * 6]
    for r in (r for r in rows if r["radius"] == OFFICIAL):
        numbers = [f"{r[name]:.3f}" for name in ("implicit_cosine", "implicit_error", "share", "whole_cosine")]
        lines.append("| " + " | ".join([str(r["batch"]), str(r["step"]), *numbers]) + " |")
    return "\n".join(lines)


def picture(rows) -> Figure:
    """Cosine and relative error over the steps: a line of plots for each size of batch, a curve for each radius."""
    sizes = list(dict.fromkeys(r["batch"] for r in rows))
    figure = Figure(figsize=(9, 0.8 + 2.6 * len(sizes)), layout="constrained")
    plots = figure.subplots(len(sizes), 2, sharex=True, sharey="col", squeeze=False)
    for size, (cosine, error) in zip(sizes, plots, strict=True):
        for radius, mark in zip(RADII, "os^v", strict=True):
            mine = [r for r in rows if (r["batch"], r["radius"]) == (size, radius)]
            told = f"R = {radius:g} / |v|" + (" (official)" if radius == OFFICIAL else "")
            style = {"linewidth": 2.2 if radius == OFFICIAL else 1, "marker": mark, "markersize": 3, "label": told}
            for axes, name in ((cosine, "implicit_cosine"), (error, "implicit_error")):
                axes.plot([r["step"] for r in mine], [r[name] for r in mine], **style)
                axes.grid(alpha=0.3)
        cosine.set_ylabel(f"batch {size}")
        error.set_yscale("log")
    plots[0, 0].set_title("cosine to the exact implicit term", fontsize=10)
    plots[0, 0].set_ylim(-1.05, 1.05)
    plots[0, 1].set_title("relative error of the implicit term", fontsize=10)
    lines = plots[0, 0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside upper center", ncols=4, fontsize=8, frameon=False)
    figure.supxlabel("search step", fontsize=10)
    return figure


def main(
    dataset: Annotated[str, typer.Option(help="digits, or a TFDS name.")] = "digits",
    data_dir: Annotated[Path | None, typer.Option(help="Folder with prepared TFDS data sets.")] = None,
    channels: int = 4,
    batch: int = 32,
    batches: Annotated[str, typer.Option(help="Sizes to compare on, with commas between.")] = "32",
    steps: int = 41,
    every: int = 4,
    seed: int = 0,
    smoke: Annotated[bool, typer.Option("--smoke", help="Digits, the space S2, two steps of batch 8.")] = False,
    out: Path = Path("runs/exactness"),
) -> None:
    """Exact against finite-difference second order, along a real search."""
    keep_programs()
    make = partial(spaces.darts, channels, 5)
    if smoke:
        dataset, make, batch, batches, steps, every = "digits", partial(spaces.s2, 2, 3), 8, "8", 2, 1
    sizes = [int(size) for size in batches.split(",")]
    recipe(data.load(dataset, data_dir), make, batch, sizes, steps, every, out, seed)


if __name__ == "__main__":
    typer.run(main)
