"""The command line: `jaxnas evaluate | export`.

Where in the river: the outermost shore, beside `cli`.
"""

import errno
import json
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from jaxnas import cli_resume
from jaxnas.choices import DEVICES, PUBLISHED, RECIPES
from jaxnas.cli_help import (
    DATASET,
    PRECISION,
    PRODUCTS,
    PROFILE,
    RESUME,
    SMOKE,
    TENSORBOARD,
    a_dataset,
    a_genotype,
    a_precision,
    a_recipe,
)
from jaxnas.cli_settings import CHANGES, CONFIG, SET_RECIPE, SHOW, toml
from jaxnas.cli_show import RESULT, tell_result
from jaxnas.cli_tables import searched
from jaxnas.options import given_or, refuse
from jaxnas.terminal import clock, say

if TYPE_CHECKING:
    from jaxnas.evaluation.recipes import Recipe
    from jaxnas.spaces.genotype import Genotype
    from jaxnas.spaces.space import Space

_WHAT = "A search's folder, a genotype file, its text, or the name of a published one such as DARTS_V2."
_RECIPE = f"How to train: {', '.join(RECIPES)}; small is for a CPU, the others are the papers'."
_SIZE = "the papers' unless given, for the recipe small a small one."
_DEVICES = (
    f"Which devices share each batch, and how: {', '.join(DEVICES)}. mesh: all, with the numbers of one; mesh-local "
    "and pmap: each normalises by its own part of the batch."
)
_VALID = "Part of the training images that is held back and measured after each epoch; the official recipes have none."
_LABEL = "Name of the method in comparisons; the search's or the published genotype's unless given."


OF_A_RUN = (  # options that a run keeps; the others are those of one sitting
    *("what", "recipe", "dataset", "data_dir", "label", "seed", "smoke"),
    *("epochs", "batch", "channels", "depth", "fraction", "valid_fraction", "precision", "matmul_precision"),
    CHANGES,
)
OF_A_FILE = (*OF_A_RUN, "devices")  # options that may come from a file


def evaluate(
    context: typer.Context,
    what: Annotated[str | None, typer.Argument(metavar="RUN|GENOTYPE", help=_WHAT, autocompletion=a_genotype)] = None,
    recipe: Annotated[str, typer.Option(help=_RECIPE, autocompletion=a_recipe)] = "small",
    dataset: Annotated[str, typer.Option(help=DATASET, autocompletion=a_dataset)] = "digits",
    data_dir: Annotated[Path | None, typer.Option(help="Folder with prepared TFDS data sets.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="The recipe's unless given.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images in a batch; the recipe's unless given.")] = None,
    channels: Annotated[int | None, typer.Option(help=f"Width of the first cells; {_SIZE}")] = None,
    depth: Annotated[int | None, typer.Option(help=f"Cells, or cells for each width; {_SIZE}")] = None,
    fraction: Annotated[float, typer.Option(help="Part of the training images to use.")] = 1.0,
    valid_fraction: Annotated[float, typer.Option(help=_VALID)] = 0.0,
    devices: Annotated[str, typer.Option(help=_DEVICES)] = "one",
    precision: Annotated[str, typer.Option(help=PRECISION, autocompletion=a_precision)] = "float32",
    matmul_precision: Annotated[str | None, typer.Option(help=PRODUCTS, autocompletion=a_precision)] = None,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 0,
    label: Annotated[str | None, typer.Option(help=_LABEL)] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; a new one in runs/ unless given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help=RESUME)] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help=SMOKE)] = False,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=SET_RECIPE)] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help=CONFIG)] = None,
    show: Annotated[bool, typer.Option("--show", help=SHOW)] = False,
    tensorboard: Annotated[Path | None, typer.Option(metavar="DIR", help=TENSORBOARD)] = None,
    profile: Annotated[Path | None, typer.Option(metavar="DIR", help=PROFILE)] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Nothing but errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help=RESULT)] = False,
) -> None:
    """Train the network of a genotype from scratch and measure it once, at the end, on the test images."""
    import jax

    from jaxnas import data, logs, names, places, profiling
    from jaxnas.evaluation.cost import genotype_cost, total
    from jaxnas.evaluation.recipes import changed, fitted
    from jaxnas.planning import genotype_of, in_words, named, placed, precision_of
    from jaxnas.progress import reading
    from jaxnas.reading import read
    from jaxnas.retraining import fit
    from jaxnas.settings import with_recipe

    asked = cli_resume.asked(context, OF_A_FILE, out, resume, config)
    what, recipe, dataset, data_dir, label, seed, smoke, *rest = asked.of(OF_A_FILE).values()  # in the order of these
    epochs, batch, channels, depth, fraction, valid_fraction, precision, matmul_precision, changed_to, devices = rest
    if what is None:
        raise ValueError("name what to train: a search's folder, a genotype file, its text, or DARTS_V2 and its like.")
    refuse(epochs=epochs, batch=batch, channels=channels, depth=depth, fraction=fraction, dataset=dataset)
    refuse(valid_fraction=valid_fraction, seed=seed, label=label)
    if profile:
        profiling.check_place(profile)
    chosen, genotype = named(names.RECIPES, recipe, "recipe"), genotype_of(what)
    numbers, placement = precision_of(precision, matmul_precision), placed(devices, False, out)
    console = Console(quiet=quiet, stderr=as_json)
    with reading(console) as tell:
        whole = data.opened(dataset, data_dir, tell)
    dataset = data.spelt(dataset, whole)
    if smoke:
        epochs, batch, fraction = 1, placement.at_least(8), min(fraction, 16 / len(whole.train.label))
    plan = with_recipe(fitted(changed(chosen, {"epochs": epochs, "batch": batch}), whole), changed_to)
    parts = (
        data.split(whole, seed=seed, fraction=fraction, valid_fraction=valid_fraction)
        if valid_fraction
        else data.whole(whole, seed=seed, fraction=fraction)
    )
    with reading(console) as tell:
        parts, statistics = read(parts, placement, tell)
    image = whole.train.image.shape[1:]
    named(names.SPACES, genotype.space, "space")
    size = names.build(genotype.space, recipe, channels, depth)
    space = names.network_space(size.name)(size.channels, size.depth, whole.classes, image=image)
    if plan.auxiliary and space.auxiliary is None:
        raise ValueError(
            f"the recipe {recipe} weighs a second head, and networks of {genotype.space} have none: "
            "choose --recipe nas-bench-201 or small."
        )
    if show:
        sized = {"channels": size.channels, "depth": size.depth, "matmul_precision": numbers.products}
        typer.echo(_shown(asked, plan, sized))
        return
    search = searched(Path(what)) if Path(what).is_dir() else None
    label = given_or(label, what if what in PUBLISHED else (search or {}).get("strategy"))
    settings = {"label": label, "source": _source(what), "dataset": dataset, "fraction": fraction, "seed": seed}
    settings |= cli_resume.record(asked.of(OF_A_RUN))
    with clock(console, "counting weights"):
        weights = total(genotype_cost(genotype, space)).parameters
    say(
        console,
        f"{label or 'a genotype'} on {dataset} by the recipe {plan.name}: {len(parts.train.label)} images train, "
        f"{len(parts.test.label)} test at the end; {weights:,} weights, "
        f"{len(space.skeleton)} layers, {plan.epochs} epochs of batches of {plan.batch}; "
        f"{len(placement.devices)} x {placement.devices[0].device_kind}{in_words(numbers)}.",
    )
    out = out or places.fresh("evaluate", label or "genotype", Path(dataset).stem, f"seed{seed}")
    try:
        with logs.wanted(tensorboard) as observe, profiling.wanted(profile, partial(say, console)) as around:
            fit(
                genotype,
                space,
                plan,
                parts,
                jax.random.key(seed),
                out=out,
                settings={**settings, "network": size._asdict()},
                search=search or None,
                statistics=statistics,
                observe=observe,
                profile=around,
                placement=placement,
                precision=numbers,
                resume=resume,
                console=console,
            )
    except KeyboardInterrupt:
        say(console, f"\nstopped; finished epochs are kept: repeat the command with --out {out} --resume to go on.")
        raise typer.Exit(130) from None
    if as_json:
        tell_result(out)


def _shown(asked: cli_resume.Asked, plan: "Recipe", sized: dict[str, Any]) -> str:
    """All settings of a retraining in full."""
    from jaxnas.settings import of_recipe

    lengths = {} if asked.options["smoke"] else {"epochs": plan.epochs, "batch": plan.batch}
    settings = {name: number.value for name, number in of_recipe(plan).items()}
    source = f"the recipe {asked.options['recipe']}"
    return toml("evaluate", asked.options | lengths | sized, settings, asked.sources, source, {})


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished jaxnas evaluate.")],
    out: Annotated[Path, typer.Option(help="Folder to write; new or empty.")],
    onnx: Annotated[bool, typer.Option("--onnx", help="As ONNX too; needs jax2onnx.")] = False,
    flax: Annotated[
        bool, typer.Option("--flax", help="As a Python file too, in plain flax, to read and change.")
    ] = False,
) -> None:
    """Write a trained network as files that run without jaxnas: arrays, StableHLO, what its input and output are."""
    import numpy as np

    from jaxnas import augmentation, folder
    from jaxnas.evaluation import export as exporting
    from jaxnas.evaluation import flax_module
    from jaxnas.retraining import WEIGHTS
    from jaxnas.spaces.network import network

    config, result = _finished(run)
    genotype, space = _rebuilt(config)
    net, image = network(genotype, space), config["network"]["image"]
    statistics = augmentation.Statistics(*(np.array(v) for v in config["normalisation"].values()))
    prepare = augmentation.plain(statistics)
    with np.load(run / WEIGHTS, allow_pickle=False) as found:
        arrays = dict(found)
    files = {"network.stablehlo": exporting.portable(net, prepare, arrays, image)}
    if onnx:
        files["network.onnx"] = exporting.onnx(net, prepare, arrays, image)
    named = flax_module.arrays(genotype, space, exporting.unflatten(arrays, net)) if flax else {}
    if flax:
        files["network.py"] = flax_module.source(genotype, space, statistics).encode()
    with folder.explained(out):
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise FileExistsError(errno.EEXIST, f"{out} is in use: choose another folder with --out.")
        np.savez(out / WEIGHTS, allow_pickle=False, **arrays)
        for name, content in files.items():
            (out / name).write_bytes(content)
        if flax:
            np.savez(out / "network.npz", allow_pickle=False, **named)
        folder.write(out / "metadata.json", json.dumps(_metadata(config, result), indent=2) + "\n")
        folder.write(out / "README.md", exporting.README.format(height=image[0], width=image[1], channels=image[2]))
    names = ", ".join(sorted(path.name for path in out.iterdir()))
    say(Console(), "written in ", (str(out), "bold"), f": {names}")


def _source(what: str) -> str | None:
    """A path or a published name; nothing for a genotype's text."""
    return what if what in PUBLISHED or (len(what) < 256 and Path(what).exists()) else None


def _finished(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    path = run / "result.json"
    result = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if result.get("kind") != "evaluation":
        raise ValueError(f"{run} is not the folder of a finished jaxnas evaluate: train the genotype first.")
    return result["config"], result


def _rebuilt(config: dict[str, Any]) -> "tuple[Genotype, Space]":
    """What a retraining's record says that was trained."""
    from jaxnas.names import network_space
    from jaxnas.spaces.genotype import from_json

    genotype, size = from_json(json.dumps(config["genotype"])), config["network"]
    space = network_space(size["name"])(size["channels"], size["depth"], size["classes"], image=tuple(size["image"]))
    return genotype, space


def _metadata(config: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    height, width, channels = config["network"]["image"]
    return {
        "input": {"type": "uint8", "shape": ["images", height, width, channels], "range": [0, 255]},
        "output": {"type": "float32", "shape": ["images", config["network"]["classes"]], "is": "logits"},
        "normalisation": {**config["normalisation"], "inside": True},
        "test": result["test"],
        "versions": {name: version(name) for name in ("jaxnas", "jax")},
        "trained": {name: config[name] for name in ("genotype", "dataset", "network", "recipe", "seed", "split")},
    }
