"""The command line: `jaxnas search | draw | info | methods`, and those of `cli_compare`, `cli_evaluate`, `cli_tables`.

Where in the river: the outermost shore. Names become values in `names.py`.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import jax
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jaxnas import cli_compare, cli_evaluate, cli_tables, drawing, folder, parallel, table
from jaxnas.agreement import Disagreement
from jaxnas.epoch import Diverged
from jaxnas.evaluation.cost import Cost, genotype_cost, supernet_cost, total
from jaxnas.names import DEVICES, SAMPLES, SHORT, SPACES, STOPS, STRATEGIES
from jaxnas.planning import carry_out, genotype_of, named, placed, plan
from jaxnas.record import environment
from jaxnas.runner import run
from jaxnas.spaces.genotype import Genotype
from jaxnas.spaces.space import Space

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Differentiable neural architecture search: find a cell, look at it, know what it costs.",
)


_STRATEGY = f"How to search: {', '.join(STRATEGIES)}. [bold]darts[/bold] is exact second order."
_WHAT = "A run's folder, a genotype file, its text, or the name of a published one such as DARTS_V2."
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
_SAMPLES = (
    f"Genotypes that random-sharing scores with its weights: one for each {SAMPLES[2]} steps of the search unless "
    f"given, {SAMPLES[0]} to {SAMPLES[1]:,}."
)
_DEVICES = (
    f"Which devices share each batch, and how: {', '.join(DEVICES)}. mesh: all, with the numbers of one; mesh-local "
    "and pmap: each normalises by its own part of the batch."
)
_DISTRIBUTED = "One of several processes of one search; start all with the same options and a common --out."
_DEPTH = "Cells (darts, s1 to s4) or cells for each width (other spaces); p-darts goes on to 2.2 and 3.4 times."


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
    samples: Annotated[int | None, typer.Option(min=1, help=_SAMPLES)] = None,
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
    placement = placed(devices, distributed, out)
    planned = plan(
        strategy,
        space,
        dataset=dataset,
        data_dir=data_dir,
        epochs=epochs,
        batch=batch,
        channels=channels,
        depth=depth,
        alpha_rate=alpha_rate,
        stop=stop,
        curvature=curvature,
        samples=samples,
        fraction=fraction,
        seed=seed,
        smoke=smoke,
        placement=placement,
    )
    console = Console(quiet=not parallel.leads())
    console.print(f"{planned.told}; {_device(placement.devices)}.", soft_wrap=True)
    out = out or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{strategy}-{Path(dataset).stem}"
    lost = f"finished epochs are kept: start all processes again with --out {out} --resume."
    try:
        with parallel.told_when_lost(lost):
            carry_out(planned, run, out=out, resume=resume, console=console)
    except KeyboardInterrupt as error:
        told = f"nothing is lost: repeat the command with --out {out} --resume to go on."
        told = f"{str(error) or 'stopped'}; {lost if distributed else told}"
        console.print(f"\n{escape(told)}", highlight=False, soft_wrap=True)
        parallel.leave(128 + getattr(error, "signal", 2))


@app.command()
def draw(
    what: Annotated[str, typer.Argument(metavar="RUN|GENOTYPE", help=_WHAT)],
    out: Annotated[Path, typer.Option(help="Picture to write, .png or .svg.")] = Path("cells.png"),
) -> None:
    """Draw the cells of a genotype: of a run so far, of a file, or of a string in any of the papers' notations."""
    with folder.explained(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        genotype = genotype_of(what)
        drawing.save(drawing.draw_cells(genotype, _inputs(genotype)), out)
    Console().print(f"drawn in [bold]{escape(str(out))}[/bold]")


@app.command()
def info(
    what: Annotated[
        str | None, typer.Argument(metavar="[RUN|GENOTYPE]", help=f"{_WHAT} The cost of its network is told.")
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
    genotype = genotype_of(what) if what else None
    chosen = named(SPACES, genotype.space if genotype else space, "space")
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


app.command()(cli_compare.compare)
app.command()(cli_compare.ablate)
app.command()(cli_evaluate.evaluate)
app.command()(cli_evaluate.export)
app.command()(cli_tables.lookup)
app.command()(cli_tables.tabular)


def _show_cost(console: Console, title: str, space: Space, costs: dict[str, Cost]) -> None:
    shown = Table("part", "parameters", "multiply-adds", title=title, title_justify="left")
    for name, cost in {**costs, "all": total(costs)}.items():
        shown.add_row(name, f"{cost.parameters:,}", f"{cost.multiply_adds:,}", end_section=name == "head")
    console.print(
        f"{len(space.skeleton)} layers, {len(space.edges)} edges, {len(space.ops)} operations", highlight=False
    )
    console.print(shown)


def _inputs(genotype: Genotype) -> int | None:
    """States that a cell starts from, where the space is one that we know."""
    chosen = SPACES.get(genotype.space)
    return chosen.make(chosen.official[0], chosen.searched, 10).inputs if chosen else None


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
    except (ValueError, OSError, MemoryError, Diverged, Disagreement, ImportError) as error:
        if os.environ.get("JAXNAS_TRACEBACK"):
            raise
        text = str(error)
        if isinstance(error, OSError) and error.strerror:
            text = error.strerror + (f": {error.filename}" if error.filename else "")
        Console(stderr=True).print(f"[bold red]jaxnas:[/bold red] {escape(text)}", highlight=False, soft_wrap=True)
        parallel.leave(1)
