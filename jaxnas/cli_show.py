"""The command line: `jaxnas draw | info | list | methods | report`.

Where in the river: the outermost shore, beside `cli`. Names become values in `names.py`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from jaxnas import terminal
from jaxnas.choices import KINDS, SPACES
from jaxnas.cli_help import a_genotype, a_kind, a_space
from jaxnas.options import given_or, refuse
from jaxnas.terminal import clock, say

if TYPE_CHECKING:
    import jax

    from jaxnas.evaluation.cost import Cost
    from jaxnas.spaces.genotype import Genotype
    from jaxnas.spaces.space import Space

WHAT = "A run's folder, a genotype file, its text, or the name of a published one such as DARTS_V2."
SPACE = f"What may be built: {', '.join(SPACES)}."
DEPTH = "Cells (darts, s1 to s4) or cells for each width (other spaces); p-darts goes on to 2.2 and 3.4 times."
JSON = "Print one JSON object, and nothing else, on stdout."
RESULT = "Print result.json and the folder as one JSON object on stdout at the end; progress goes to stderr."
_KIND = f"One of {', '.join(KINDS)}; all unless given."


def draw(
    what: Annotated[str, typer.Argument(metavar="RUN|GENOTYPE", help=WHAT, autocompletion=a_genotype)],
    out: Annotated[Path, typer.Option(help="Picture to write, .png or .svg.")] = Path("cells.png"),
) -> None:
    """Draw the cells of a genotype: of a run so far, of a file, or of a string in any of the papers' notations."""
    from jaxnas import drawing, folder, planning

    with folder.explained(out.parent), clock(Console(), "drawing"):
        out.parent.mkdir(parents=True, exist_ok=True)
        genotype = planning.genotype_of(what)
        drawing.save(drawing.draw_cells(genotype, _inputs(genotype)), out)
    say(Console(), "drawn in ", (str(out), "bold"))


def info(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN|GENOTYPE", help=f"{WHAT} The cost of its network is told.", autocompletion=a_genotype
        ),
    ] = None,
    space: Annotated[str, typer.Option(help=SPACE, autocompletion=a_space)] = "darts",
    channels: Annotated[int | None, typer.Option(help="Width of the first cells; the papers' unless given.")] = None,
    depth: Annotated[int | None, typer.Option(help=DEPTH)] = None,
    classes: Annotated[int, typer.Option(help="Number of labels.")] = 10,
    side: Annotated[int, typer.Option(help="Height and width of the images.")] = 32,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the line of the whole.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help=JSON)] = False,
) -> None:
    """Devices and versions; parameters and multiply-adds of a space's supernet, or of a genotype's network."""
    from jaxnas import names, planning
    from jaxnas.evaluation.cost import genotype_cost, supernet_cost, total
    from jaxnas.record import environment

    refuse(channels=channels, depth=depth, classes=classes, side=side)
    genotype = None if what is None else planning.genotype_of(what)
    chosen = planning.named(names.SPACES, genotype.space if genotype else space, "space")
    width, layers = (16, chosen.searched) if genotype is None else chosen.official
    make = chosen.make if genotype is None else chosen.network
    width, layers = given_or(channels, width), given_or(depth, layers)
    with clock(Console(stderr=True, quiet=quiet), "counting"):
        built = make(width, layers, classes, image=(side, side, 3))
        costs = supernet_cost(built) if genotype is None else genotype_cost(genotype, built)
    title = f"supernet of {space}" if genotype is None else f"network of this {genotype.space} genotype"
    title += f": {width} channels, images {side} x {side} x 3, {classes} classes"
    if as_json:
        typer.echo(json.dumps(_plain(title, built, costs), indent=2))
    elif quiet:
        whole = total(costs)
        typer.echo(f"{whole.parameters} parameters, {whole.multiply_adds} multiply-adds")
    else:
        console = Console()
        terminal.show(console, terminal.table(("device", device()), environment()["versions"].items()))
        _show_cost(console, title, built, costs)


def list_names(
    kind: Annotated[str | None, typer.Argument(metavar="KIND", help=_KIND, autocompletion=a_kind)] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with prepared TFDS data sets.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help=JSON)] = False,
) -> None:
    """What there is to choose from: strategies, spaces, data sets, published genotypes, recipes."""
    from jaxnas import catalogue, planning

    kinds = [kind] if kind else list(catalogue.KINDS)
    found = {one: planning.named(catalogue.KINDS, one, "list")(data_dir) for one in kinds}
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    console = Console()
    for one, rows in found.items():
        columns = catalogue.SHOWN[one]
        cells = ([_cell(row[name]) for name in columns] for row in rows)
        terminal.show(console, terminal.table(columns, cells, title=one))


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a search or a retraining, over or not.")],
    out: Annotated[Path | None, typer.Option(help="Page to write; report.html in the folder unless given.")] = None,
) -> None:
    """Write a run as one HTML page that needs nothing else: cells, alpha over time, curves, settings, environment."""
    from jaxnas import folder, reports

    with folder.explained((out or run).parent), clock(Console(), "drawing"):
        found = reports.leave(run, _searched(run), out)
    say(Console(), "written: ", (str(found), "bold"))


def methods(
    markdown: Annotated[bool, typer.Option("--markdown", help="As a document, with sources and deviations.")] = False,
) -> None:
    """The table of methods: what fills each slot."""
    from jaxnas import table

    if markdown:
        typer.echo(table.markdown(), nl=False)
        return
    found = table.rows()
    cells = ((one.name, *one.slots.values()) for one in found)
    terminal.show(Console(), terminal.table(("method", *found[0].slots), cells, ruled=range(len(found))))


def tell_result(out: Path) -> None:
    """Prints what a finished run left in its `result.json`, and where it lies, as one JSON object."""
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    typer.echo(json.dumps({"folder": str(out), **result}, indent=2))


def device(devices: "Sequence[jax.Device]" = ()) -> str:
    """Devices in words; those that there are unless given."""
    import jax

    devices = devices or jax.devices()
    return f"{len(devices)} x {devices[0].device_kind}" if len(devices) > 1 else devices[0].device_kind


def _cell(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _plain(title: str, space: "Space", costs: "Mapping[str, Cost]") -> dict[str, Any]:
    from jaxnas.evaluation.cost import total
    from jaxnas.record import environment

    sizes = {"name": space.name, "layers": len(space.skeleton), "edges": len(space.edges), "ops": list(space.op_names)}
    parts = {name: cost._asdict() for name, cost in costs.items()}
    return {"what": title, "space": sizes, "parts": parts, "all": total(costs)._asdict(), **environment()}


def _show_cost(console: Console, title: str, space: "Space", costs: "Mapping[str, Cost]") -> None:
    from jaxnas.evaluation.cost import total

    found = {**costs, "all": total(costs)}
    cells = ((name, f"{cost.parameters:,}", f"{cost.multiply_adds:,}") for name, cost in found.items())
    heads = ("part", "parameters", "multiply-adds")
    say(console, f"{len(space.skeleton)} layers, {len(space.edges)} edges, {len(space.ops)} operations")
    terminal.show(console, terminal.table(heads, cells, title=title, ruled=[len(costs) - 1]))


def _searched(run: Path) -> "Space | None":
    """The space of a run, where it is one that we know; its size does not matter."""
    from jaxnas import folder, names

    path = run / "genotype.json"
    chosen = names.SPACES.get(folder.read_genotype(str(run)).space) if path.exists() else None
    return chosen.make(chosen.official[0], chosen.searched, 10) if chosen else None


def _inputs(genotype: "Genotype") -> int | None:
    """States that a cell starts from, where the space is one that we know."""
    from jaxnas import names

    chosen = names.SPACES.get(genotype.space)
    return chosen.make(chosen.official[0], chosen.searched, 10).inputs if chosen else None
