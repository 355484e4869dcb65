"""The command line: `jaxnas search`, and the commands of `cli_show`, `cli_compare`, `cli_evaluate`, `cli_tables`.

Where in the river: the outermost shore. Names become values in `names.py`. Help and completion need the options of
commands only; so what a command does is imported when it is called, here and in the other files of the command line.
"""

import atexit
import gc
import os
import sys
import warnings
from collections.abc import Callable
from functools import partial, wraps
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from jaxnas import cli_compare, cli_evaluate, cli_help, cli_resume, cli_settings, cli_show, cli_tables
from jaxnas.choices import DEVICES, SAMPLES, SHORT, STOPS, STRATEGIES
from jaxnas.terminal import clock, say, warn

if TYPE_CHECKING:
    from jaxnas.planning import Plan

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Differentiable neural architecture search: find a cell, look at it, know what it costs.",
    epilog=cli_help.exits(),
)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"jaxnas {version('jaxnas')}")
        raise typer.Exit()


@app.callback()
def _common(
    shown: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    del shown


_STRATEGY = f"How to search: {', '.join(STRATEGIES)}. [bold]darts[/bold] is exact second order."
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
OF_A_RUN = (  # options that a run keeps; the others are those of one sitting
    *("strategy", "space", "dataset", "data_dir", "epochs", "batch", "channels", "depth", "alpha_rate", "stop"),
    *("curvature", "samples", "fraction", "seed", "smoke", "precision", "matmul_precision"),
    cli_settings.CHANGES,
)
OF_A_FILE = (*OF_A_RUN, "devices", "layout")  # options that may come from a file
_LIVE = "One screen, drawn anew: losses, entropy, skips, the strongest operation of each edge."
_DISTRIBUTED = "One of several processes of one search; start all with the same options and a common --out."


def loaded(command: Callable[..., None]) -> Callable[..., None]:
    """The same command, called when JAX is loaded; a person at a terminal sees a clock meanwhile.

    Args:
      command: takes the option `quiet` or not.
    """

    @wraps(command)
    def called(**options) -> None:
        with clock(Console(stderr=True, quiet=options.get("quiet", False)), "loading JAX"):
            import jaxnas.planning  # noqa: F401  which imports what commands have in common
            from jaxnas.cache import keep_programs
        keep_programs()
        command(**options)

    return called


@app.command(epilog=cli_help.epilog("search"))
@loaded
def search(
    context: typer.Context,
    strategy: Annotated[str, typer.Option(help=_STRATEGY, autocompletion=cli_help.a_strategy)] = "darts",
    space: Annotated[str, typer.Option(help=cli_show.SPACE, autocompletion=cli_help.a_space)] = "darts",
    dataset: Annotated[str, typer.Option(help=cli_help.DATASET, autocompletion=cli_help.a_dataset)] = "digits",
    data_dir: Annotated[Path | None, typer.Option(help=_DATA_DIR)] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Length of the search, or of each of its stages.")] = 10,
    batch: Annotated[int, typer.Option(min=1, help="Images in a batch, for the weights and again for alpha.")] = 64,
    channels: Annotated[int, typer.Option(help="Width of the first cells.")] = 4,
    depth: Annotated[int | None, typer.Option(help=cli_show.DEPTH)] = None,
    alpha_rate: Annotated[float | None, typer.Option(help=_ALPHA_RATE)] = None,
    stop: Annotated[str | None, typer.Option(help=_STOP, autocompletion=cli_help.a_rule)] = None,
    curvature: Annotated[int | None, typer.Option(min=0, help=_CURVATURE)] = None,
    samples: Annotated[int | None, typer.Option(min=1, help=_SAMPLES)] = None,
    fraction: Annotated[float, typer.Option(help="Part of the training images to use.")] = 1.0,
    devices: Annotated[str, typer.Option(help=_DEVICES, autocompletion=cli_help.a_placement)] = "mesh",
    distributed: Annotated[bool, typer.Option("--distributed", help=_DISTRIBUTED)] = False,
    precision: Annotated[str, typer.Option(help=cli_help.PRECISION, autocompletion=cli_help.a_precision)] = "float32",
    matmul_precision: Annotated[
        str | None, typer.Option(help=cli_help.PRODUCTS, autocompletion=cli_help.a_precision)
    ] = None,
    layout: Annotated[str, typer.Option(help=cli_help.LAYOUT, autocompletion=cli_help.a_layout)] = "auto",
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; a new one in runs/ unless given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help=cli_help.RESUME)] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help=cli_help.SMOKE)] = False,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=cli_settings.SET)] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help=cli_settings.CONFIG)] = None,
    show: Annotated[bool, typer.Option("--show", help=cli_settings.SHOW)] = False,
    live: Annotated[bool, typer.Option("--live", help=_LIVE)] = False,
    tensorboard: Annotated[Path | None, typer.Option(metavar="DIR", help=cli_help.TENSORBOARD)] = None,
    profile: Annotated[Path | None, typer.Option(metavar="DIR", help=cli_help.PROFILE)] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Nothing but errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help=cli_show.RESULT)] = False,
) -> None:
    """Search an architecture, and leave a folder with genotype, curves and pictures.

    Without options: exact second-order DARTS on 1,797 handwritten digits, a few minutes on a laptop.
    """
    from jaxnas import logs, parallel, places, planning, profiling, refusals
    from jaxnas.live import shown
    from jaxnas.precision import LowPrecision
    from jaxnas.progress import reading
    from jaxnas.runner import run

    asked = cli_resume.asked(context, OF_A_FILE, out, resume, config)
    given = asked.of(OF_A_RUN)
    strategy, dataset, seed, devices, layout = asked.of(("strategy", "dataset", "seed", "devices", "layout")).values()
    if profile:
        profiling.check_place(profile)
    placement = planning.placed(devices, distributed, out)
    console = Console(quiet=quiet or not parallel.leads(), stderr=as_json)
    with reading(console) as tell:
        planned = planning.plan(**given, placement=placement, layout=layout, tell=tell)
    if show:
        typer.echo(_shown(asked, planned))
        return
    planned = planned._replace(settings={**planned.settings, **cli_resume.record(given)})
    say(console, f"{planned.told}; {cli_show.device(placement.devices)}.")
    strategies = [stage.strategy for stage in planned.stages]
    for text in (refusals.doubt(planned.precision, strategies), refusals.lopsided(planned.data)):
        if text:
            warn(console, text)
    out = out or places.fresh(strategy, Path(dataset).stem, f"seed{seed}")
    lost = f"finished epochs are kept: start all processes again with --out {out} --resume."
    try:
        with (
            parallel.told_when_lost(lost),
            logs.wanted(tensorboard) as observe,
            profiling.wanted(profile, partial(say, console)) as around,
            warnings.catch_warnings(),
        ):
            for kind in (LowPrecision, refusals.Lopsided):  # told above
                warnings.simplefilter("ignore", kind)
            more: dict[str, Any] = {"observe": observe, "profile": around}
            more |= {"show": partial(shown, space=planned.space)} if live else {}
            planning.carry_out(planned, run, out=out, resume=resume, console=console, **more)
    except KeyboardInterrupt as error:
        told = f"nothing is lost: repeat the command with --out {out} --resume to go on."
        told = f"{str(error) or 'stopped'}; {lost if distributed else told}"
        say(console, f"\n{told}")
        parallel.leave(128 + getattr(error, "signal", 2))
    if as_json and parallel.leads():
        cli_show.tell_result(out)


def _shown(asked: cli_resume.Asked, planned: "Plan") -> str:
    """All settings of a search in full."""
    found = {name: planned.settings.get(name) for name in ("depth", "alpha_rate", "stop", "samples")}
    found |= {"curvature": planned.watch.every if planned.watch else 0}
    found |= {"matmul_precision": planned.precision.products}
    silent = dict.fromkeys(planned.made.follows, "follows from the search's length")
    if "alpha.rate" in planned.made.values:
        silent |= {"alpha_rate": "alpha.rate below"}
    row, options = f"the row {planned.settings['strategy']}", asked.options | found
    return cli_settings.toml("search", options, planned.made.values, asked.sources, row, silent)


COMMANDS: dict[str, Callable[..., None]] = {
    "draw": cli_show.draw,
    "info": cli_show.info,
    "list": cli_show.list_names,
    "methods": cli_show.methods,
    "report": cli_show.report,
    "compare": cli_compare.compare,
    "ablate": cli_compare.ablate,
    "evaluate": cli_evaluate.evaluate,
    "export": cli_evaluate.export,
    "lookup": cli_tables.lookup,
    "tabular": cli_tables.tabular,
}
for name, command in COMMANDS.items():
    app.command(name, epilog=cli_help.epilog(name))(loaded(command))


def main() -> None:
    """Runs a command; what the user can mend is told in one sentence, without a traceback."""
    atexit.register(gc.freeze)  # else Python ends with a look at all the small objects that tracing has made: a second
    try:
        app()
    except Exception as error:
        if os.environ.get("JAXNAS_TRACEBACK") or not _mendable(error):
            raise
        text = str(error)
        if isinstance(error, OSError) and error.strerror:
            text = error.strerror + (f": {error.filename}" if error.filename else "")
        say(Console(stderr=True), ("jaxnas:", "bold red"), f" {text}")
        if "jax" in sys.modules:
            from jaxnas import parallel

            parallel.leave(1)
        sys.exit(1)


def _mendable(error: Exception) -> bool:
    """Whether the user can mend it."""
    if isinstance(error, (ValueError, OSError, MemoryError, ImportError)):
        return True
    from jaxnas.agreement import Disagreement
    from jaxnas.epoch import Diverged

    return isinstance(error, (Diverged, Disagreement))
