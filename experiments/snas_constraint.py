"""Which weight of the resource term makes SNAS find networks of the published sizes?

Paper: Xie et al. 2019, arXiv:1812.09926, table 1: networks of 2.9, 2.8 and 2.3 million parameters under a mild, a
moderate and an aggressive constraint. The official code does not say which lambda belongs to which. Here the search is
run for a row of lambdas, its last genotype is counted as the network it stands for (36 channels, 20 cells, all edges),
and lambda is read off where the sizes cross the published ones. Lambda is an argument of the compiled step, which is
compiled once for all.

    python experiments/snas_constraint.py                                       # digits; minutes; sizes fall, no more
    python experiments/snas_constraint.py --dataset cifar10 --data-dir DIR --channels 16 --layers 8 --batch 64 \
        --steps 117300 --alpha-rate 3e-4 --seeds 3                              # the official search, 150 epochs, each
    python experiments/snas_constraint.py --smoke                               # two steps of two searches

Only the second is a fit: lambdas depend on width, depth and length of the search, and one seed says little.
Writes snas_constraint.json into --out, and prints two tables in Markdown.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import typer

from jaxnas import augmentation, data
from jaxnas.cache import keep_programs
from jaxnas.evaluation.cost import genotype_cost, total
from jaxnas.folder import write
from jaxnas.hypergradient import Batches
from jaxnas.search import bind
from jaxnas.spaces.darts import darts, darts_network
from jaxnas.spaces.genotype import to_json
from jaxnas.strategies.algorithms import snas
from jaxnas.strategies.penalty import resource_log

PUBLISHED = {"mild": 2.9e6, "moderate": 2.8e6, "aggressive": 2.3e6}  # parameters
LAMBDAS = "0,3e-4,6e-4,1e-3,1.5e-3,3e-3"


def crossing(lambdas, sizes, target: float) -> float | None:
    """Lambda > 0 at which the sizes first fall through the target, linear in log lambda; none where they do not."""
    pairs = [(x, y) for x, y in zip(lambdas, sizes, strict=True) if x > 0]
    for (x0, y0), (x1, y1) in pairwise(pairs):
        if y0 >= target >= y1 and y0 > y1:
            return float(np.exp(np.log(x0) + (y0 - target) / (y0 - y1) * (np.log(x1) - np.log(x0))))
    return None


def recipe(
    dataset, data_dir, channels: int, layers: int, batch: int, steps: int, alpha_rate: float, seeds: int, lambdas
):
    """One row after the other, for each seed and lambda: what was found, and the parameters of its network."""
    full = data.load(dataset, data_dir)
    parts = data.split(full, seed=0)
    images = full.train.image.shape[1:]
    space, network = darts(channels, layers, full.classes, image=images), darts_network(36, 20, 10)
    augment = augmentation.default_augmentation(full, augmentation.statistics(parts.train))

    def search(weight):
        strategy = snas(steps, every=max(1, steps // 150), alpha_rate=alpha_rate)
        return bind(strategy.replace(penalty=resource_log(lambda step: weight)), space, augment=augment)

    init, step = jax.jit(search(0.0).init), jax.jit(lambda weight, *args: search(weight).step(*args))
    for seed in range(seeds):
        drawn = np.random.default_rng(seed).integers(len(parts.train.label), size=(steps, batch))
        for weight in lambdas:
            state = init(jax.random.key(seed))
            for at in drawn:
                some = data.take(parts.train, jnp.asarray(at))
                state, metrics = step(jnp.float32(weight), state, Batches(some, some))
            found = search(0.0).genotype(state)
            size = total(genotype_cost(found, network)).parameters
            row = {"lambda": weight, "seed": seed, "parameters": size, "loss": float(metrics["train"]["loss"])}
            yield {**row, "none": found.count("none"), "genotype": json.loads(to_json(found))}


def tables(rows) -> str:
    """Mean sizes by lambda, and the lambdas at which they cross the published ones, in Markdown."""
    lambdas = sorted({row["lambda"] for row in rows})
    sizes = [np.mean([row["parameters"] for row in rows if row["lambda"] == x]) for x in lambdas]
    each = [", ".join(f"{row['parameters'] / 1e6:.2f}" for row in rows if row["lambda"] == x) for x in lambdas]
    lines = ["| lambda | parameters, millions | each seed |", "| --- | --- | --- |"]
    lines += [f"| {x:g} | {size / 1e6:.2f} | {one} |" for x, size, one in zip(lambdas, sizes, each, strict=True)]
    lines += ["", "| constraint | published, millions | lambda |", "| --- | --- | --- |"]
    for name, target in PUBLISHED.items():
        at = crossing(lambdas, sizes, target)
        lines.append(f"| {name} | {target / 1e6:.1f} | {'not crossed' if at is None else f'{at:.2g}'} |")
    return "\n".join(lines)


def main(
    dataset: Annotated[str, typer.Option(help="digits, or a TFDS name.")] = "digits",
    data_dir: Annotated[Path | None, typer.Option(help="Folder with prepared TFDS data sets.")] = None,
    channels: int = 4,
    layers: int = 3,
    batch: int = 16,
    steps: int = 60,
    alpha_rate: Annotated[float, typer.Option(help="Of Adam; the official 3e-4 is made for 117,300 steps.")] = 3e-2,
    seeds: int = 1,
    lambdas: Annotated[str, typer.Option(help="Weights of the resource term, with commas between.")] = LAMBDAS,
    smoke: Annotated[bool, typer.Option("--smoke", help="Digits, two weights, two steps of batch 2.")] = False,
    out: Path = Path("runs/snas_constraint"),
) -> None:
    """Sizes of the networks that SNAS finds, by the weight of its resource term."""
    keep_programs()
    if smoke:
        dataset, channels, layers, batch, steps, seeds, lambdas = "digits", 2, 3, 2, 2, 1, "0,1e-3"
    sizes = {"channels": channels, "layers": layers, "batch": batch, "steps": steps, "alpha_rate": alpha_rate}
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict] = []
    for row in recipe(dataset, data_dir, **sizes, seeds=seeds, lambdas=[float(x) for x in lambdas.split(",")]):
        rows.append(row)
        write(out / "snas_constraint.json", json.dumps({"dataset": dataset, **sizes, "rows": rows}, indent=1) + "\n")
        print(json.dumps({name: value for name, value in row.items() if name != "genotype"}), flush=True)
    print(tables(rows))


if __name__ == "__main__":
    typer.run(main)
