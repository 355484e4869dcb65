"""How searches collapse, and what regularisation and early stopping do about it: S1 to S4 with the L2 grid.

Paper: Zela et al. 2020, arXiv:1909.09656, figures 4 and 5, tables 2 and 3. For each space and each decay of the
weights a second-order search; behind every second epoch the largest eigenvalue of the Hessian of the validation loss
in alpha (by 16 Lanczos products), and the skips in the normal cell; in S4, which has none, the noise. From the
published logs of the authors (S1, CIFAR-10, three seeds): 7, 7, 7 skips at 3e-4 and 2, 2, 2 at 81e-4. The rule of
DARTS-ES is asked afterwards: which epoch would it have answered with, and is the network of that epoch's cell better
than that of the last one, when both are trained alike?

Reduced, so that two cores finish: images averaged to 16 x 16, 8 channels, 5 cells, 1,200 images, 30 epochs of 12
steps; alpha's rate ten times the paper's; networks of 8 channels and 5 cells, 10 epochs. Curves are about searches of
this size.

    python -m experiments.collapse --data-dir DIR                 # hours on two cores
    python -m experiments.collapse --smoke                        # digits, one space, two decays

Writes collapse.json and collapse.png into --out, after every search; searches that are there are not run again.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jax
import typer
from matplotlib.figure import Figure
from rich.console import Console

from experiments.truth import between, reduced
from jaxnas import data as data_sets
from jaxnas import drawing
from jaxnas.cache import keep_programs
from jaxnas.evaluation import recipes
from jaxnas.evaluation.diagnostics import Watch, estimated_spectrum
from jaxnas.evaluation.statistics import summary
from jaxnas.evaluation.stopping import sharp_rise
from jaxnas.folder import write
from jaxnas.names import SPACES
from jaxnas.planning import carry_out, plan
from jaxnas.record import environment
from jaxnas.retraining import fit
from jaxnas.runner import run
from jaxnas.spaces.genotype import Genotype, from_json
from jaxnas.stages import Stage
from jaxnas.strategies.algorithms import r_darts_l2

DECAYS = (3e-4, 9e-4, 27e-4, 81e-4)
PRODUCTS = 16  # of the Hessian with a direction, for each eigenvalue; the whole Hessian takes one for each alpha
USELESS = ("skip_connect", "noise")  # what a collapse is made of: skips in S1 to S3; S4 has noise in their place
ENOUGH = 8  # values for an interval
SIZE = {"batch": 50, "channels": 8, "depth": 5}


def search(space: str, decay: float, seed: int, images: Path, epochs: int, out: Path) -> list[dict[str, Any]]:
    """One search: its records."""
    planned = plan("r-darts-l2", space, dataset=str(images), epochs=epochs, seed=seed, curvature=2, **SIZE)
    steps = -(-len(planned.data.train.label) // planned.batch)
    row = r_darts_l2(epochs * steps, decay, every=steps, alpha_rate=planned.settings["alpha_rate"])
    watch = Watch(partial(estimated_spectrum, iterations=PRODUCTS), 2)
    decays = planned._replace(stages=[Stage(row, epochs)], watch=watch)
    return carry_out(decays, run, out=out, resume=(out / "config.json").exists(), console=Console(quiet=True)).records


def retrained(genotype: Genotype, space: str, images: Path, seed: int, epochs: int, out: Path) -> float | None:
    """Test accuracy in percent of a cell's network, trained from scratch on the same images; none with noise in it."""
    if genotype.count("noise"):
        return None
    whole = data_sets.load(str(images))
    network = SPACES[space].network(8, 5, whole.classes, image=whole.train.image.shape[1:])
    recipe = recipes.fitted(recipes.small(epochs, 50), whole)
    key, options = jax.random.key(seed), {"resume": (out / "config.json").exists(), "console": Console(quiet=True)}
    trained = fit(genotype, network, recipe, data_sets.whole(whole), key, out=out, settings={"seed": seed}, **options)
    return 100 * trained.test["accuracy"]


def told(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Curves of a search, and the epoch that DARTS-ES would have answered with."""
    rule = sharp_rise()
    verdict = next((v for v in (rule(records[: i + 1]) for i in range(len(records) - 1)) if v), None)
    stopped = verdict.epoch if verdict else None
    counts = lambda genotype: sum(genotype.count(op, "normal") for op in USELESS)
    skips = lambda record: counts(from_json(json.dumps(record["genotype"])))
    return {
        "skips": [skips(record) for record in records],
        "curvature": {str(r["epoch"]): r["measured"]["curvature"] for r in records if "measured" in r},
        "valid_accuracy": [record["valid_accuracy"] for record in records],
        "stopped_at": stopped,
        "cells": {
            str(r["epoch"]): r["genotype"] for r in records if r["epoch"] in (len(records), *(verdict or ())[:1])
        },
    }


def table_of(records: Sequence[Mapping[str, Any]]) -> str:
    """One line for each search, in Markdown."""
    lines = [
        "| space | decay | seed | skips (noise) of 8 | eigenvalue, largest | at the end "
        "| validation, supernet % | DARTS-ES answers with epoch | test %, last cell | test %, its cell |",
        "|" + " --- |" * 10,
    ]
    for r in records:
        values, worth = list(r["curvature"].values()), {k: told_percent(v) for k, v in r["retrained"].items()}
        stopped = [str(r["stopped_at"] or ""), worth.get("last", ""), worth.get("stopped", "")]
        numbers = [r["skips"][-1], f"{max(values):.3g}", f"{values[-1]:.3g}", f"{100 * r['valid_accuracy'][-1]:.1f}"]
        lines.append("| " + " | ".join(map(str, [r["space"], f"{r['decay']:g}", r["seed"], *numbers, *stopped])) + " |")
    return "\n".join(lines)


def told_percent(value: float | None) -> str:
    return "has noise" if value is None else f"{value:.2f}"


def stopping_of(records: Sequence[Mapping[str, Any]]) -> str:
    """What DARTS-ES changes in the searches that it would have stopped: its cell's accuracy less that of the last."""
    heads = "space", "searches", "stopped", "its cell better in", "points, test", "95 % of the mean"
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for name in [*dict.fromkeys(record["space"] for record in records), "all"]:
        mine = [record for record in records if name in (record["space"], "all")]
        pairs = [(r["retrained"]["stopped"], r["retrained"]["last"]) for r in mine if r["stopped_at"]]
        gaps = [cell - last for cell, last in pairs if None not in (cell, last)]
        told = [name, len(mine), len(pairs), sum(gap > 0 for gap in gaps), *mean_gap(gaps)]
        lines.append(f"| {' | '.join(map(str, told))} |")
    return "\n".join(lines)


def mean_gap(gaps: Sequence[float]) -> tuple[str, str]:
    """Mean and deviation of differences in points, and the interval of the mean from `ENOUGH` values on; as text."""
    if len(gaps) < 2:
        return "".join(f"{gap:+.2f}" for gap in gaps), ""
    s = summary(gaps)
    return f"{s.mean:+.2f} ± {s.deviation:.2f}", between(s.interval) if s.n >= ENOUGH else ""


def picture(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Skips above, eigenvalues below; one column for each space, one line for each search, darker with more decay."""
    spaces, decays = (list(dict.fromkeys(r[name] for r in records)) for name in ("space", "decay"))
    figure = Figure(figsize=(2.8 * len(spaces) + 1.6, 4.6), layout="constrained")
    axes = figure.subplots(2, len(spaces), sharex=True, sharey="row", squeeze=False)
    shades = {decay: str(0.75 - 0.75 * i / max(1, len(decays) - 1)) for i, decay in enumerate(decays)}
    for record in records:
        column = axes[:, spaces.index(record["space"])]
        style = {"color": shades[record["decay"]], "label": f"{record['decay']:g}" if record["seed"] == 0 else None}
        column[0].plot(range(1, 1 + len(record["skips"])), record["skips"], **style)
        column[1].plot([int(e) for e in record["curvature"]], list(record["curvature"].values()), **style)
    for i, space in enumerate(spaces):
        axes[0, i].set_title(space, fontsize=10)
        axes[1, i].set_xlabel("epoch")
    axes[0, 0].set_ylabel("skips (s4: noise) of 8")
    axes[1, 0].set_ylabel("largest eigenvalue")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), title="decay", loc="outside right upper", fontsize=8)
    return figure


def main(
    dataset: Annotated[str, typer.Option(help="digits, or a TFDS name.")] = "cifar10",
    data_dir: Annotated[Path | None, typer.Option(help="Folder with prepared TFDS data sets.")] = None,
    spaces: Annotated[str, typer.Option(help="With commas between.")] = "s1,s2,s3,s4",
    seeds: int = 1,
    epochs: int = 30,
    smoke: Annotated[bool, typer.Option("--smoke", help="Digits, one space, two decays, one epoch.")] = False,
    out: Path = Path("runs/collapse"),
) -> None:
    """Skips and curvature of searches with several decays, and whether stopping early gives a better cell."""
    keep_programs()
    decays, images, training = DECAYS, 1200, 10
    if smoke:
        dataset, spaces, decays, images, epochs, training = "digits", "s2", DECAYS[:2], 16, 1, 1
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "collapse.json"
    settings = {"dataset": dataset, "images": images, "epochs": epochs, "products": PRODUCTS, **SIZE}
    study = json.loads(kept.read_text()) if kept.exists() else {"settings": settings, **environment(), "records": []}
    if study["settings"] != settings:
        raise ValueError(f"{kept} holds a study of {study['settings']}, not of {settings}: give another --out.")
    path, records = reduced(dataset, data_dir, images, out), study["records"]
    done = {(r["space"], r["decay"], r["seed"]) for r in records}
    todo = [(space, decay, seed) for seed in range(seeds) for space in spaces.split(",") for decay in decays]
    for space, decay, seed in (one for one in todo if one not in done):
        place = out / f"{space}-{decay:g}-{seed}"
        found = told(search(space, decay, seed, path, epochs, place / "search"))
        answers = {"last": len(found["skips"]), **({"stopped": found["stopped_at"]} if found["stopped_at"] else {})}
        worth = lambda name, epoch, found=found, space=space, seed=seed, place=place: retrained(
            from_json(json.dumps(found["cells"][str(epoch)])), space, path, seed, training, place / name
        )
        found["retrained"] = {name: worth(name, epoch) for name, epoch in answers.items()}
        records.append({"space": space, "decay": decay, "seed": seed, **found})
        write(kept, json.dumps(study, indent=1) + "\n")
        typer.echo(table_of(records).splitlines()[-1])
    drawing.save(picture(records), out / "collapse.png")
    typer.echo(f"{table_of(records)}\n\n{stopping_of(records)}")


if __name__ == "__main__":
    typer.run(main)
