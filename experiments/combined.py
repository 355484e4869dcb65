"""Does PC-DARTS x GDAS x P-DARTS find better cells than its parents? True accuracies from NAS-Bench-201.

Papers: Xu et al. 2020, arXiv:1907.05737; Dong and Yang 2019, arXiv:1910.04465; Chen et al. 2019, arXiv:1904.12760.
Equal budget: the same images and the same number of steps in all, each row with eight seeds; the composed rows are
those of docs/composition.md. Images, network and length are those of truth.py, and so is the reading: it is about
small searches.

    python -m experiments.combined --data-dir DIR --table FILE.npz        # half an hour on two cores
    python -m experiments.combined --smoke                                # digits, two rows, two seeds, a made-up table

Writes truth.json and truth.png into --out, after every row; rows that are there are not run again.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import optax
import typer

from experiments import truth
from experiments.batched import Found, alone, together
from jaxnas.cache import keep_programs
from jaxnas.planning import Plan, plan
from jaxnas.spaces.nas_bench_201 import nas_bench_201
from jaxnas.stages import Stage, progressive
from jaxnas.strategies.algorithms import gdas
from jaxnas.strategies.draws import gumbel_hard
from jaxnas.strategies.mixing import broadcast, partial_channels
from jaxnas.strategies.relaxation import edge_normalized
from jaxnas.strategies.strategy import Strategy

PARENTS = ("pc-darts", "gdas", "p-darts")
COMPOSED = ("pc-darts x gdas", "gdas x p-darts", "pc-darts x gdas x p-darts")
PAIRS = tuple((COMPOSED[-1], parent) for parent in PARENTS)


def pc_gdas(steps: int, **options: Any) -> Strategy:
    """GDAS on a quarter of the channels, with weighted edges."""
    gates = edge_normalized(gumbel_hard(optax.linear_schedule(10.0, 0.1, steps)))
    return gdas(steps, **options).replace(relaxation=gates, mixing=partial_channels(4, broadcast()))


plain_gdas = partial(gdas, convention=broadcast)


def composed(name: str, planned: Plan, epochs: int, channels: int) -> Plan:
    """A plan with the stages of a composed row; as many epochs in all."""
    row, rate = pc_gdas if name.startswith("pc-darts") else plain_gdas, planned.settings["alpha_rate"]
    steps = -(-len(planned.data.train.label) // planned.batch)
    make: Callable[[int], Strategy] = lambda e: row(e * steps, every=steps, alpha_rate=rate).replace(
        decode=planned.stages[0].strategy.decode
    )
    if not name.endswith("p-darts"):
        return planned._replace(stages=[Stage(make(epochs), epochs)])
    sizes = {"classes": planned.space.classes, "image": planned.space.image}
    spaces = [nas_bench_201(channels, cells, **sizes) for cells in (1, 2, 3)]
    return planned._replace(stages=progressive([make(epochs // 3)] * 3, spaces, epochs // 3, keep=(5, 4, 3)))


def searched(name: str, images: Path, epochs: int, batch: int, channels: int, seeds: int) -> list[Found]:
    """One row of the study: what each seed found."""
    if name in PARENTS:
        return truth.searched(name, images, epochs, batch, channels, seeds)
    sizes: Mapping[str, Any] = {"dataset": str(images), "epochs": epochs, "batch": batch, "channels": channels}
    first = plan("gdas", "nas_bench_201", **sizes)
    made = composed(name, first, epochs, channels)
    if len(made.stages) == 1:
        return together(made, seeds)
    return alone([made._replace(seed=seed) for seed in range(seeds)])


def main(
    dataset: Annotated[str, typer.Option(help="digits, or a TFDS name.")] = "cifar10",
    data_dir: Annotated[Path | None, typer.Option(help="Folder with prepared TFDS data sets.")] = None,
    table: Annotated[Path | None, typer.Option(help="The table of NAS-Bench-201, docs/nas_bench_201.md.")] = None,
    rows: Annotated[str, typer.Option(help="Methods, with commas between.")] = ",".join((*PARENTS, *COMPOSED)),
    smoke: Annotated[bool, typer.Option("--smoke", help="Digits, two rows, two seeds, a made-up table.")] = False,
    out: Path = Path("runs/combined"),
) -> None:
    """True accuracies of what composed rows and their parents find."""
    keep_programs()
    if smoke:
        rows = "gdas,pc-darts x gdas"
    truth.study(searched, rows.split(","), dataset, data_dir, table, smoke=smoke, out=out)


if __name__ == "__main__":
    typer.run(main)
