"""Does a searched cell beat a published one, or a random one, where all are trained alike?

Papers: Li and Talwalkar 2019, arXiv:1902.07638; Yang, Esperança, Carlucci 2020, arXiv:1912.12522: random cells of the
DARTS space come close to searched ones. Here the cell of DARTS (second order, as published), a cell of a search of your
own, and three random cells are trained by one recipe on the same images, with three seeds each, and compared.

    jaxnas search --dataset cifar10 --data-dir DIR --channels 12 --depth 3 --epochs 3 --fraction 0.015 --out runs/found
    python experiments/retraining.py --found runs/found --data-dir DIR    # CPU, 2 cores: 30 minutes
    python experiments/retraining.py --smoke                              # digits, seconds of training

The published accuracy of the first, 97.24 ± 0.09 %, is of 36 channels, 20 cells and 600 epochs; what this size gives
can be compared with itself only. A run that was interrupted goes on where it was; finished ones are kept.
Writes a folder for each training, and comparison.md, .json and .html into --out.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import typer
from rich.console import Console

from jaxnas import data
from jaxnas.cache import keep_programs
from jaxnas.cli_compare import leave
from jaxnas.cli_tables import searched
from jaxnas.evaluation import outcomes, recipes, report
from jaxnas.evaluation.comparison import compare
from jaxnas.evaluation.random_search import random_genotype
from jaxnas.folder import read_genotype
from jaxnas.retraining import fit
from jaxnas.spaces.darts import darts, darts_network
from jaxnas.spaces.genotype import Genotype
from jaxnas.spaces.published import DARTS_V2
from jaxnas.strategies.decoding import top_edges


class Candidate(NamedTuple):
    """A cell that takes part."""

    label: str  # of its method
    name: str
    genotype: Genotype
    search: Mapping[str, Any] | None = None  # what is known of the search that found it


def candidates(found: Path | None, randoms: int) -> Iterator[Candidate]:
    """The published cell, the one found by a search, and random ones (two edges to each node, as searches decode)."""
    yield Candidate("DARTS_V2 (published)", "DARTS_V2", DARTS_V2)
    if found:
        yield Candidate("searched", str(found), read_genotype(str(found)), searched(found))
    for i in range(randoms):
        yield Candidate("random search", f"random {i}", random_genotype(jax.random.key(i), darts(), top_edges()))


def main(
    found: Annotated[Path | None, typer.Option(help="Folder of a search in the space darts.")] = None,
    dataset: Annotated[str, typer.Option(help="digits, or a TFDS name.")] = "cifar10",
    data_dir: Annotated[Path | None, typer.Option(help="Folder with prepared TFDS data sets.")] = None,
    fraction: Annotated[float, typer.Option(help="Part of the training images to use.")] = 0.1,
    channels: int = 8,
    depth: Annotated[int, typer.Option(help="Cells.")] = 5,
    epochs: int = 6,
    seeds: int = 3,
    randoms: Annotated[int, typer.Option(help="Random cells.")] = 3,
    smoke: Annotated[bool, typer.Option("--smoke", help="One seed, one epoch, digits.")] = False,
    out: Path = Path("runs/retraining"),
) -> None:
    """Train several cells alike, and compare them."""
    keep_programs()
    if smoke:
        dataset, fraction, channels, depth, epochs, seeds, randoms = "digits", 0.1, 4, 3, 1, 1, 1
    whole = data.load(dataset, data_dir)
    space = darts_network(channels, depth, whole.classes, image=whole.train.image.shape[1:])
    recipe = recipes.fitted(recipes.small(epochs, 64), whole)
    parts = data.whole(whole, fraction=fraction)  # the same images for all
    folders, console = [], Console()
    for seed in range(seeds):
        for one in candidates(found, randoms):
            place = out / f"{Path(one.name).name.replace(' ', '-')}-{seed}"
            folders.append(place)
            if (place / "result.json").exists():
                continue
            settings = {"label": one.label, "source": one.name, "dataset": dataset, "fraction": fraction, "seed": seed}
            settings["network"] = {"channels": channels, "depth": depth}
            more = {"search": one.search, "resume": (place / "config.json").exists(), "console": console}
            fit(one.genotype, space, recipe, parts, jax.random.key(seed), out=place, settings=settings, **more)
    told = compare([outcomes.read(one) for one in folders])
    typer.echo(report.markdown(told))
    console.print(f"written in {out}: {', '.join(path.name for path in leave(told, out))}", markup=False)


if __name__ == "__main__":
    typer.run(main)
