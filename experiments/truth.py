"""What are the cells worth that each method finds? Searches on CIFAR-10, true accuracies from NAS-Bench-201.

Every row searches the space NAS-Bench-201 with the same images, network, number of epochs and seeds; the genotype
behind each epoch is looked up. Random search draws one cell for each seed. Searches of one stage run for all seeds in
one program; P-DARTS, DrNAS and DARTS-ES, which change shapes or stop by themselves, run seed by seed.

Reduced, so that two cores finish: images averaged to 16 x 16, 8 channels, one cell in each of the three stages, 1,200
images, 30 epochs of 12 steps of batch 50; P-DARTS has 10 in each stage, DrNAS 15. Alpha's rate is ten times the
papers', since the search is that much shorter. What comes out is about searches of this size.

    python -m experiments.truth --data-dir DIR --table FILE.npz       # an hour on two cores
    python -m experiments.truth --smoke                               # digits, three rows, two seeds, a made-up table

Writes truth.json and truth.png into --out, after every row; rows that are there are not run again.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, product
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import typer
from matplotlib.figure import Figure

from experiments.batched import Found, alone, together
from jaxnas import data as data_sets
from jaxnas import drawing
from jaxnas.cache import keep_programs
from jaxnas.evaluation import benchmark
from jaxnas.evaluation.benchmark import Table
from jaxnas.evaluation.random_search import random_genotype
from jaxnas.evaluation.statistics import Summary, summary
from jaxnas.folder import write
from jaxnas.planning import Plan, plan
from jaxnas.record import environment
from jaxnas.spaces.genotype import to_nas_bench_201
from jaxnas.spaces.nas_bench_201 import nas_bench_201
from jaxnas.strategies.decoding import argmax_edges

ROWS = (
    "random",
    "random-sharing",
    "darts-first-order",
    "darts",
    "darts-official",
    "darts-es",
    "pc-darts",
    "gdas",
    "snas",
    "dr-nas",
    "p-darts",
)
UNMOVED = ("random", "random-sharing")  # alpha stays where it is: no cell is behind an epoch
STAGED = {"p-darts": 3, "dr-nas": 2}  # rows whose epochs are shared by stages
ALONE = (*STAGED, "darts-es")
DATASETS = ("cifar10", "cifar100", "imagenet16_120")
PAIRS = (
    ("darts", "darts-official"),
    ("darts", "darts-first-order"),
    ("darts-official", "darts-first-order"),
    ("darts-es", "darts"),
    ("darts-es", "darts-es, last epoch"),
)
PUBLISHED = {  # CIFAR-10 test accuracy in percent, as later papers quote it; not checked in the original
    "random-sharing": "87.66 ± 1.69",
    "darts-first-order": "54.30 ± 0.00",
    "darts-official": "54.30 ± 0.00",
    "pc-darts": "93.41 ± 0.30",
    "snas": "92.77 ± 0.83",
}


def reduced(dataset: str, data_dir: Path | None, images: int, place: Path) -> Path:
    """A file with the first training images of a random order, each pixel the mean of four; digits stay as they are."""
    path = place / "images.npz"
    whole = data_sets.load(dataset, data_dir)
    order = np.random.default_rng(0).permutation(len(whole.train.label))[:images]
    half = (lambda x: x) if dataset == "digits" else halved
    some = lambda part, rows: (half(part.image[rows]), part.label[rows])
    train, test = some(whole.train, order), some(whole.test, ...)
    np.savez(path, image=train[0], label=train[1], test_image=test[0], test_label=test[1])
    return path


def halved(image: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, C] -> [N, H / 2, W / 2, C], each pixel the mean of four; even sides only."""
    n, h, w, c = image.shape
    return image.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4)).round().astype(np.uint8)


def searched(name: str, images: Path, epochs: int, batch: int, channels: int, seeds: int) -> list[Found]:
    """One row of the study: what each seed found."""
    if name == "random":
        keys = map(jax.random.key, range(seeds))
        return [Found([random_genotype(key, nas_bench_201(), argmax_edges())], float("nan")) for key in keys]
    sizes: Mapping[str, Any] = {"dataset": str(images), "batch": batch, "channels": channels}
    planned = lambda seed: plan(name, "nas_bench_201", epochs=epochs // STAGED.get(name, 1), seed=seed, **sizes)
    if name in ALONE:
        return alone([same_images(planned(seed), planned(0)) for seed in range(seeds)])
    return together(planned(0), seeds)


def same_images(planned: Plan, other: Plan) -> Plan:
    return planned._replace(data=other.data, augment=other.augment)


def measured(name: str, found: Sequence[Found], seconds: float, table: Table) -> list[dict[str, Any]]:
    """One record for each seed: cells, and what they are worth: test accuracy after 200 epochs, in percent."""
    worth = lambda g: {d: 100 * float(table.values(d, "test", 200)[table.row(g)]) for d in DATASETS}
    return [
        {
            "method": name,
            "seed": seed,
            "cells": [to_nas_bench_201(g) for g in one.genotypes],
            "cifar10_by_epoch": [worth(g)["cifar10"] for g in one.genotypes],
            **worth(one.genotypes[-1]),
            "skips": one.genotypes[-1].count("skip_connect"),
            "entropy": None if np.isnan(one.entropy) else one.entropy,
            "seconds": seconds / len(found),
        }
        for seed, one in enumerate(found)
    ]


def whole_space(table: Table) -> dict[str, Any]:
    """What a cell is worth that is drawn at random, each as likely as any: mean, deviation and best, in percent."""
    worth = {d: 100 * table.values(d, "test", 200) for d in DATASETS}
    told = {d: {"mean": float(x.mean()), "deviation": float(x.std()), "best": float(x.max())} for d, x in worth.items()}
    return {"cells": len(table.ops), **told}


def table_of(
    records: Sequence[Mapping[str, Any]],
    whole: Mapping[str, Any] | None = None,
    published: Mapping[str, str] = PUBLISHED,
) -> str:
    """One line for the whole space and for each method, in Markdown: mean, sample deviation, and the best apart."""
    heads = ["method", "n", "cifar10 %", "95 % of the mean", "published", "best"]
    heads += [head for d in DATASETS[1:] for head in (f"{d} %", "best")] + ["skips of 6", "entropy", "seconds"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    if whole:
        every = [[f"{x['mean']:.1f} ± {x['deviation']:.1f}", f"{x['best']:.1f}"] for x in (whole[d] for d in DATASETS)]
        every[0][1:1] = ["", ""]
        lines.append("| " + " | ".join(["every cell", f"{whole['cells']:,}", *chain(*every), "", "", ""]) + " |")
    for name in dict.fromkeys(record["method"] for record in records):
        mine = [record for record in records if record["method"] == name]
        worth = [summary([record[d] for record in mine]) for d in DATASETS]
        told = [[spread(s), f"{s.best:.1f}"] for s in worth]
        told[0][1:1] = [between(worth[0].interval), published.get(name, "")]
        mean = lambda key, form, mine=mine: (
            "" if mine[0][key] is None else format(np.mean([record[key] for record in mine]), form)
        )
        rest = [mean("skips", ".1f"), mean("entropy", ".2f"), mean("seconds", ".0f")]
        lines.append("| " + " | ".join([name, str(len(mine)), *chain(*told), *rest]) + " |")
    return "\n".join(lines)


def spread(s: Summary) -> str:
    return f"{s.mean:.1f}" + ("" if s.deviation is None else f" ± {s.deviation:.1f}")


def between(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.1f} to {interval[1]:.1f}"


def pairs_of(records: Sequence[Mapping[str, Any]], pairs: Sequence[tuple[str, str]] = PAIRS) -> str:
    """How far two methods differ, seed by seed: mean, deviation, interval of the mean; in Markdown.

    "NAME, last epoch" is the cell behind the last epoch of a search, which need not be its answer.
    """
    worth = {(r["method"], r["seed"]): r["cifar10"] for r in records}
    behind = lambda r: r["cifar10_by_epoch"][:-1][-1:]  # none where there are no epochs
    worth |= {(f"{r['method']}, last epoch", r["seed"]): last for r in records for last in behind(r)}
    lines = ["| first - second | seeds | cifar10, points | 95 % of the mean | first better in |", "|" + " --- |" * 5]
    for first, second in pairs:
        seeds = sorted(seed for name, seed in worth if name == first and (second, seed) in worth)
        gaps = [worth[first, seed] - worth[second, seed] for seed in seeds]
        if len(gaps) > 1:
            s = summary(gaps)
            told = f"{s.mean:+.1f} ± {s.deviation:.1f} | {between(s.interval)} | {sum(gap > 0 for gap in gaps)}"
            lines.append(f"| {first} - {second} | {s.n} | {told} |")
    return "\n".join(lines)


def picture(records: Sequence[Mapping[str, Any]], whole: Mapping[str, Any]) -> Figure:
    """For each method the true accuracy of the cell behind each epoch: seeds thin, their mean thick while all run."""
    names = [n for n in dict.fromkeys(r["method"] for r in records) if n not in UNMOVED]
    lines = -(-len(names) // 5)
    across = -(-len(names) // lines)
    figure = Figure(figsize=(2.6 * across, 2.3 * lines), layout="constrained")
    axes = figure.subplots(lines, across, sharey=True, sharex=True, squeeze=False)
    for place, name in zip(axes.flat, names, strict=False):
        curves = [r["cifar10_by_epoch"][:-1] for r in records if r["method"] == name]
        for curve in curves:
            place.plot(range(1, 1 + len(curve)), curve, color="#9db4cc", linewidth=0.8)
        longest = max(map(len, curves))
        padded = np.array([curve + [np.nan] * (longest - len(curve)) for curve in curves])
        place.plot(range(1, 1 + longest), padded.mean(0), color="#1c4a7c", linewidth=2)
        place.axhline(whole["cifar10"]["mean"], color="#b5541c", linestyle="--", linewidth=1)
        place.set_title(name, fontsize=9)
        place.tick_params(labelbottom=True)
    for place in axes.flat[len(names) :]:
        place.set_axis_off()
    figure.supxlabel(
        "epoch of the search; thick: mean over seeds while all search, dashed: mean of all cells", fontsize=9
    )
    figure.supylabel("CIFAR-10 test accuracy of its cell, %", fontsize=9)
    return figure


def made_up() -> Table:
    """A table for the smoke test: the more convolutions, the better."""
    ops = np.array(list(product(range(5), repeat=6)), np.int8)
    names = np.array(("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"))
    percent = 10.0 + 10 * (ops == 3).sum(1)
    return benchmark.table({"ops": ops, "op_names": names, **{f"{d}_test_200": percent for d in DATASETS}})


def study(
    searched: Callable[..., list[Found]],
    rows: Sequence[str],
    dataset: str,
    data_dir: Path | None,
    table: Path | None,
    *,
    out: Path,
    smoke: bool = False,
    images: int = 1200,
    epochs: int = 30,
    batch: int = 50,
    channels: int = 8,
    seeds: int = 8,
) -> list[dict[str, Any]]:
    """Runs the rows that are not on record yet, and leaves record and picture.

    Args:
      searched: (row, file of images, epochs, batch, channels, seeds) -> what each seed found.

    Raises:
      ValueError: without a table, or where `out` holds a study of other settings.
    """
    if smoke:
        dataset, images, epochs, batch, channels, seeds = "digits", 16, 3, 8, 4, 2
    elif table is None:
        raise ValueError("give the table of NAS-Bench-201 with --table; docs/nas_bench_201.md says how to make it.")
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "truth.json"
    settings = {"dataset": dataset, "images": images, "epochs": epochs, "batch": batch, "channels": channels}
    told = json.loads(kept.read_text()) if kept.exists() else {"settings": settings, **environment(), "records": []}
    if told["settings"] != settings:
        raise ValueError(f"{kept} holds a study of {told['settings']}, not of {settings}: give another --out.")
    worth = made_up() if smoke or table is None else benchmark.read(table)
    path, records = reduced(dataset, data_dir, images, out), told["records"]
    told["whole"] = whole_space(worth)
    for name in (row for row in rows if row not in {record["method"] for record in records}):
        began = time.perf_counter()
        found = searched(name, path, epochs, batch, channels, seeds)
        records += measured(name, found, time.perf_counter() - began, worth)
        write(kept, json.dumps(told, indent=1) + "\n")
        typer.echo(table_of(records).splitlines()[-1])
    write(kept, json.dumps(told, indent=1) + "\n")
    drawing.save(picture(records, told["whole"]), out / "truth.png")
    typer.echo(table_of(records, told["whole"]))
    return records


def main(
    dataset: Annotated[str, typer.Option(help="digits, or a TFDS name.")] = "cifar10",
    data_dir: Annotated[Path | None, typer.Option(help="Folder with prepared TFDS data sets.")] = None,
    table: Annotated[Path | None, typer.Option(help="The table of NAS-Bench-201, docs/nas_bench_201.md.")] = None,
    rows: Annotated[str, typer.Option(help="Methods, with commas between.")] = ",".join(ROWS),
    epochs: Annotated[int, typer.Option(help="Of each search.")] = 30,
    smoke: Annotated[bool, typer.Option("--smoke", help="Digits, three rows, two seeds, a made-up table.")] = False,
    out: Path = Path("runs/truth"),
) -> None:
    """True accuracies of what each method finds."""
    keep_programs()
    if smoke:
        rows = "random,darts-first-order,gdas"
    study(searched, rows.split(","), dataset, data_dir, table, smoke=smoke, out=out, epochs=epochs)


if __name__ == "__main__":
    typer.run(main)
