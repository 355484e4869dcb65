"""The command line: `jaxnas search | draw | info | methods`.

Where in the river: the outermost shore. Names become values in `names.py`.
"""

import errno
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import jax
import typer
from rich.console import Console
from rich.table import Table

from jaxnas import augmentation, drawing, folder, parallel, table
from jaxnas import data as data_sets
from jaxnas.epoch import Diverged, steps_per_epoch
from jaxnas.evaluation.cost import Cost, genotype_cost, supernet_cost, total
from jaxnas.evaluation.diagnostics import Watch, spectrum
from jaxnas.evaluation.random_search import pick_shared
from jaxnas.names import DEVICES, FINISH, GROWTH, SHORT, SPACES, STAGES, STOPPED, STOPS, STRATEGIES, SpaceChoice
from jaxnas.record import environment
from jaxnas.runner import decoded, run
from jaxnas.spaces.genotype import Genotype, read
from jaxnas.spaces.space import Space
from jaxnas.stages import Stage
from jaxnas.strategies.strategy import Strategy

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Differentiable neural architecture search: find a cell, look at it, know what it costs.",
)


_STRATEGY = f"How to search: {', '.join(STRATEGIES)}. [bold]darts[/bold] is exact second order."
_SPACE = f"What may be built: {', '.join(SPACES)}."
_DATASET = "digits (in the package), a TFDS name such as cifar10, or a .npz file with 'image' and 'label'."
_DATA_DIR = "Folder with prepared TFDS data sets; ~/tensorflow_datasets unless given."
_ALPHA_RATE = f"Learning rate of alpha; the paper's unless given, ten times it for searches under {SHORT:,} steps."
_STOP = (
    f"What may end the search early: {', '.join(STOPS)}; sharp-rise for darts-es, never for the others unless given. "
    "sharp-rise looks at the curvature and can fire from epoch 23 on."
)
_CURVATURE = (
    "Measure the curvature of the validation loss in alpha every so many epochs; 0 is never, 2 with sharp-rise."
)
_DEVICES = (
    f"Which devices share each batch, and how: {', '.join(DEVICES)}. mesh: all, with the numbers of one; mesh-local "
    "and pmap: each normalises by its own part of the batch."
)
_DISTRIBUTED = "One of several processes of one search; start all with the same options and a common --out."
_DEPTH = "Cells (darts, s1 to s4) or cells for each width (other spaces); p-darts goes on to 2.2 and 3.4 times that."


@app.command()
def search(
    strategy: Annotated[str, typer.Option(help=_STRATEGY)] = "darts",
    space: Annotated[str, typer.Option(help=_SPACE)] = "darts",
    dataset: Annotated[str, typer.Option(help=_DATASET)] = "digits",
    data_dir: Annotated[Path | None, typer.Option(help=_DATA_DIR)] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Length of the search, or of each of its stages.")] = 10,
    batch: Annotated[int, typer.Option(min=1, help="Images in a batch, for the weights and again for alpha.")] = 64,
    channels: Annotated[int, typer.Option(help="Width of the first cells.")] = 4,
    depth: Annotated[int | None, typer.Option(help=_DEPTH)] = None,
    alpha_rate: Annotated[float | None, typer.Option(help=_ALPHA_RATE)] = None,
    stop: Annotated[str | None, typer.Option(help=_STOP)] = None,
    curvature: Annotated[int | None, typer.Option(min=0, help=_CURVATURE)] = None,
    fraction: Annotated[float, typer.Option(help="Part of the training images to use.")] = 1.0,
    devices: Annotated[str, typer.Option(help=_DEVICES)] = "mesh",
    distributed: Annotated[bool, typer.Option("--distributed", help=_DISTRIBUTED)] = False,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; a new one in runs/ unless given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="A few steps only, to see that everything works.")] = False,
) -> None:
    """Search an architecture, and leave a folder with genotype, curves and pictures.

    Without options: exact second-order DARTS on 1,797 handwritten digits, a few minutes on a laptop.
    """
    if resume and out is None:
        raise ValueError("--resume continues the run in a folder: name it with --out.")
    placement = _placement(devices, distributed, out)
    chosen, row = _named(SPACES, space, "space"), _named(STRATEGIES, strategy, "strategy")
    stop = stop or STOPPED.get(strategy, "never")
    rule, watch = _named(STOPS, stop, "rule to stop by"), _watch(stop, curvature)
    dataset_full = data_sets.load(dataset, data_dir)
    finish = FINISH.get(strategy, decoded)
    if smoke:
        epochs, batch, fraction = 1, placement.at_least(4), min(fraction, 16 / len(dataset_full.train.label))
        finish = partial(pick_shared, samples=10) if finish is pick_shared else finish
    row = partial(row, **chosen.settings.get(row, {}))
    parts = data_sets.split(dataset_full, seed=seed, fraction=fraction)
    depth = depth or chosen.depth
    make = partial(chosen.make, classes=dataset_full.classes, image=dataset_full.train.image.shape[1:])
    spaces = [make(channels, round(depth * part)) for part in (GROWTH if strategy in STAGES else (1,))]
    steps = steps_per_epoch(len(parts.train.label), batch)
    rate = alpha_rate or signature(row).parameters["alpha_rate"].default * (1 if epochs * steps >= SHORT else 10)
    stages = _stages(strategy, row, spaces, steps, epochs, rate)
    settings = {"strategy": strategy, "dataset": dataset, "seed": seed, "fraction": fraction, "channels": channels}
    console = Console(quiet=not parallel.leads())
    console.print(
        f"{strategy} on {dataset}: {len(parts.train.label)} images move the weights, {len(parts.valid.label)} alpha; "
        f"{total(supernet_cost(spaces[0])).parameters:,} weights, {len(spaces[0].skeleton)} layers, "
        f"{epochs} epochs of {steps} steps{f' in each of {len(stages)} stages' if len(stages) > 1 else ''}, "
        f"alpha's rate {rate:g}; {_device(placement.devices)}.",
        soft_wrap=True,
    )
    out = out or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{strategy}-{Path(dataset).stem}"
    lost = f"Finished epochs are kept: start all processes again with --out {out} --resume."
    try:
        with parallel.told_when_lost(lost):
            run(
                [stage._replace(strategy=_decoding(stage.strategy, chosen)) for stage in stages],
                spaces[0],
                parts,
                jax.random.key(seed),
                out=out,
                batch=batch,
                augment=augmentation.default_augmentation(dataset_full, augmentation.statistics(parts.train)),
                settings={**settings, "depth": depth, "alpha_rate": rate, "stop": stop},
                stop=rule,
                watch=watch,
                finish=finish,
                placement=placement,
                resume=resume,
                console=console,
            )
    except KeyboardInterrupt:
        console.print(f"\nstopped; finished epochs are kept: repeat the command with --out {out} --resume to go on.")
        raise typer.Exit(130) from None


def _placement(devices: str, distributed: bool, out: Path | None) -> parallel.Placement:
    if distributed and out is None:
        raise ValueError("--distributed needs a folder that all processes see: name it with --out.")
    place = _named(DEVICES, devices, "placement on devices")
    if distributed:
        parallel.join()
    return place()


def _stages(name: str, row: Callable[..., Strategy], spaces: list[Space], steps: int, epochs: int, rate: float):
    if name in STAGES:
        return STAGES[name](spaces, steps, epochs, alpha_rate=rate)
    return [Stage(row(epochs * steps, every=steps, alpha_rate=rate), epochs)]


def _decoding(strategy: Strategy, chosen: SpaceChoice) -> Strategy:
    return strategy.replace(decode=chosen.decode(strategy.decode))


@app.command()
def draw(
    what: Annotated[str, typer.Argument(metavar="RUN|GENOTYPE", help="A run's folder, a genotype file, or its text.")],
    out: Annotated[Path, typer.Option(help="Picture to write, .png or .svg.")] = Path("cells.png"),
) -> None:
    """Draw the cells of a genotype: of a run so far, of a file, or of a string in any of the papers' notations."""
    with folder.explained(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        drawing.save(drawing.draw_cells(_genotype(what)), out)
    Console().print(f"drawn in [bold]{out}[/bold]")


@app.command()
def info(
    what: Annotated[
        str | None, typer.Argument(metavar="[RUN|GENOTYPE]", help="Cost of the network it describes.")
    ] = None,
    space: Annotated[str, typer.Option(help=_SPACE)] = "darts",
    channels: Annotated[int | None, typer.Option(help="Width of the first cells; the papers' unless given.")] = None,
    depth: Annotated[int | None, typer.Option(help=_DEPTH)] = None,
    classes: Annotated[int, typer.Option(help="Number of labels.")] = 10,
    side: Annotated[int, typer.Option(help="Height and width of the images.")] = 32,
) -> None:
    """Devices and versions; parameters and multiply-adds of a space's supernet, or of a genotype's network."""
    console, found = Console(), environment()
    console.print(f"{_device()}; " + ", ".join(f"{name} {v}" for name, v in found["versions"].items()))
    genotype = _genotype(what) if what else None
    chosen = _named(SPACES, genotype.space if genotype else space, "space")
    image = (side, side, 3)
    if genotype is None:
        built = chosen.make(channels or 16, depth or chosen.searched, classes, image=image)
        _show_cost(console, f"supernet of {space}", built, supernet_cost(built))
        return
    width, layers = channels or chosen.official[0], depth or chosen.official[1]
    built = chosen.network(width, layers, classes, image=image)
    _show_cost(console, f"network of this {genotype.space} genotype", built, genotype_cost(genotype, built))


@app.command()
def methods(
    markdown: Annotated[bool, typer.Option("--markdown", help="As a document, with sources and deviations.")] = False,
) -> None:
    """The table of methods: what fills each slot."""
    if markdown:
        typer.echo(table.markdown(), nl=False)
        return
    found = table.rows()
    shown = Table("method", *found[0].slots, show_lines=True)
    for one in found:
        shown.add_row(one.name, *one.slots.values())
    Console().print(shown)


def _watch(stop: str, every: int | None) -> Watch | None:
    every = (2 if stop == "sharp-rise" else 0) if every is None else every
    if stop == "sharp-rise" and not every:
        raise ValueError("--stop sharp-rise looks at the curvature: leave out --curvature 0.")
    return Watch(spectrum, every) if every else None


def _show_cost(console: Console, title: str, space: Space, costs: dict[str, Cost]) -> None:
    shown = Table("part", "parameters", "multiply-adds", title=title, title_justify="left")
    for name, cost in {**costs, "all": total(costs)}.items():
        shown.add_row(name, f"{cost.parameters:,}", f"{cost.multiply_adds:,}", end_section=name == "head")
    console.print(
        f"{len(space.skeleton)} layers, {len(space.edges)} edges, {len(space.ops)} operations", highlight=False
    )
    console.print(shown)


def _genotype(what: str) -> Genotype:
    """From a run's folder, a file, or the text itself."""
    path = Path(what)
    try:
        found = path / "genotype.json" if path.is_dir() else path
        if found.is_file():
            return read(found.read_text(encoding="utf-8"))
        if path.is_dir():
            raise FileNotFoundError(errno.ENOENT, f"no genotype.json in {what}: is it the folder of a run?")
    except UnicodeDecodeError:
        raise ValueError(f"{what} is not a text file; a genotype is JSON or one of the papers' notations.") from None
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
    return read(what)


def _named(table: dict[str, Any], name: str, kind: str):
    if name not in table:
        raise ValueError(f"no {kind} is called {name!r}; choose one of {', '.join(table)}.")
    return table[name]


def _device(devices: Sequence[jax.Device] = ()) -> str:
    devices = devices or jax.devices()
    return f"{len(devices)} x {devices[0].device_kind}" if len(devices) > 1 else devices[0].device_kind


def keep_compiled_programs() -> None:
    """Keeps compiled programs in ~/.cache/jaxnas, so that the second start is quick; JAX's own settings win."""
    if not (os.environ.get("JAX_COMPILATION_CACHE_DIR") or jax.config.values.get("jax_compilation_cache_dir")):
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(base / "jaxnas" / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def main() -> None:
    """Runs a command; what the user can mend is told in one sentence, without a traceback."""
    keep_compiled_programs()
    try:
        app()
    except (ValueError, OSError, Diverged, parallel.Disagreement, ImportError) as error:
        if os.environ.get("JAXNAS_TRACEBACK"):
            raise
        text = str(error)
        if isinstance(error, OSError) and error.strerror:
            text = error.strerror + (f": {error.filename}" if error.filename else "")
        Console(stderr=True).print(f"[bold red]jaxnas:[/bold red] {text}", highlight=False, soft_wrap=True)
        parallel.leave(1)
