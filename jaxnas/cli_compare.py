"""The command line: `jaxnas compare | ablate`.

Where in the river: the outermost shore, beside `cli`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from jaxnas import cli_help, terminal
from jaxnas.options import refuse
from jaxnas.terminal import say, waiting

if TYPE_CHECKING:
    from jaxnas.evaluation.comparison import Comparison
    from jaxnas.planning import Plan
    from jaxnas.stages import Stage

Judge = Callable[[Path], Path]  # folder of a search -> folder of what its genotype is worth: trained, or looked up
WHOLE = "whole"
_AS = "As in jaxnas search."
_BASELINE = "The method that is random search; one with 'random' in its name unless given."
_SEEDS = "Searches of each variant, with seeds from --seed on."


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of runs: retrained, looked up, searched.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for comparison.md, .json and .html.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not tables.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown document, not tables.")] = False,
    baseline: Annotated[str | None, typer.Option(help=_BASELINE)] = None,
) -> None:
    """Compare methods by their runs, over seeds, against random search; refuse what cannot be compared."""
    from jaxnas.evaluation import comparison, outcomes, report

    found = comparison.compare([outcomes.read(one) for one in _once(runs)], baseline=baseline)
    if as_json:
        typer.echo(_json(found))
    elif markdown:
        typer.echo(report.markdown(found), nl=False)
    else:
        _show(found)
    if out:
        names = ", ".join(path.name for path in leave(found, out))
        say(Console(stderr=True), "written: ", (str(out), "bold"), f": {names}")


def leave(found: "Comparison", out: Path) -> list[Path]:
    """Writes a comparison as Markdown, JSON and a page; the files.

    Raises:
      FileExistsError: where the folder is that of a run.
    """
    from jaxnas import folder
    from jaxnas.evaluation import report
    from jaxnas.evaluation.page import page

    if (out / "config.json").exists():
        raise FileExistsError(f"{out} is the folder of a run: choose another one for the comparison with --out.")
    texts = {
        "comparison.md": report.markdown(found),
        "comparison.json": _json(found) + "\n",
        "comparison.html": page(found),
    }
    with folder.explained(out):
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            folder.write(out / name, text)
    return [out / name for name in texts]


def ablate(
    out: Annotated[Path, typer.Option(help="Folder for the runs and their comparison.")],
    strategy: Annotated[str, typer.Option(help=_AS, autocompletion=cli_help.a_strategy)] = "pc-darts",
    space: Annotated[str, typer.Option(help=_AS, autocompletion=cli_help.a_space)] = "darts",
    dataset: Annotated[str, typer.Option(help=_AS, autocompletion=cli_help.a_dataset)] = "digits",
    data_dir: Annotated[Path | None, typer.Option(help=_AS)] = None,
    epochs: Annotated[int, typer.Option(min=1, help=_AS)] = 10,
    batch: Annotated[int, typer.Option(min=1, help=_AS)] = 64,
    channels: Annotated[int, typer.Option(help=_AS)] = 4,
    depth: Annotated[int | None, typer.Option(help=_AS)] = None,
    alpha_rate: Annotated[float | None, typer.Option(help=_AS)] = None,
    stop: Annotated[str | None, typer.Option(help=_AS, autocompletion=cli_help.a_rule)] = None,
    curvature: Annotated[int | None, typer.Option(min=0, help=_AS)] = None,
    fraction: Annotated[float, typer.Option(help=_AS)] = 1.0,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help=_SEEDS)] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the runs in --out.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help=_AS)] = False,
) -> None:
    """Search with a strategy and with each of its parts turned off, same budget, seeds and images; compare."""
    from jaxnas.evaluation import comparison, outcomes
    from jaxnas.planning import plan

    refuse(seeds=seeds, seed=seed + seeds - 1)

    def planned(one: int) -> "Plan":
        return plan(
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
            fraction=fraction,
            seed=one,
            smoke=smoke,
        )

    console = Console()
    with waiting(console, f"reading {dataset}"):
        plans = [planned(one) for one in range(seed, seed + seeds)]
    try:
        folders = run_ablation(plans, out, resume=resume, console=console)
    except KeyboardInterrupt as error:
        say(console, f"\nstopped; nothing is lost: repeat the command with --out {out} --resume to go on.")
        raise typer.Exit(128 + getattr(error, "signal", 2)) from None
    found = comparison.compare([outcomes.read(one) for one in folders])
    _show(found)
    say(console, f"written in {out}: {', '.join(path.name for path in leave(found, out))}")


def run_ablation(
    plans: "Sequence[Plan]", out: Path, *, judge: Judge | None = None, resume: bool = False, console: Console
) -> list[Path]:
    """Runs each plan whole and without each of its parts; the folders, in `out`.

    Args:
      plans: one for each seed.
      judge: what each found genotype is worth, after its search; its folders are given back too.

    Raises:
      ValueError: where the strategy has no part that can be turned off.
    """
    folders = []
    for one in plans:
        variants = _variants(one)
        for number, (name, stages) in enumerate(variants.items(), 1):
            say(console, f"{number}/{len(variants)}: {_title(one, name, stages)}, seed {one.seed}")
            folders += _run_variant(one, name, stages, out, judge, resume, console)
    return folders


def _run_variant(one: "Plan", name: str, stages, out: Path, judge: Judge | None, resume: bool, console) -> list[Path]:
    from jaxnas.evaluation.rules import WITHOUT
    from jaxnas.planning import carry_out
    from jaxnas.runner import run

    place = out / f"{name if name == WHOLE else f'without-{name}'}-{one.seed}"
    strategy = one.settings["strategy"] + (f"{WITHOUT}{name}" if name != WHOLE else "")
    changed = one._replace(stages=stages, settings={**one.settings, "strategy": strategy})
    carry_out(changed, run, out=place, resume=resume and (place / "config.json").exists(), console=console)
    return [place, judge(place)] if judge else [place]


def _variants(one: "Plan") -> "Mapping[str, Sequence[Stage]]":
    from jaxnas import ablation

    plain = {**ablation.PLAIN, "decode": one.decode(ablation.PLAIN["decode"])}
    found = ablation.staged(one.stages, plain)
    if not found:
        name = one.settings["strategy"]
        raise ValueError(f"{name} has no slot that plain first-order DARTS fills otherwise: nothing can be turned off.")
    return {WHOLE: one.stages, **found}


def _title(one: "Plan", name: str, stages: "Sequence[Stage]") -> str:
    from jaxnas import ablation
    from jaxnas.evaluation.rules import WITHOUT

    if name == WHOLE:
        return str(one.settings["strategy"])
    told = (ablation.told(old.strategy, new.strategy) for old, new in zip(one.stages, stages, strict=True))
    return f"{one.settings['strategy']}{WITHOUT}{name} ({next(text for text in told if text)})"


def _show(found: "Comparison") -> None:
    """In words and tables."""
    from jaxnas.evaluation import report

    console = Console()
    say(console, (report.title(found), "bold"))
    for block in report.blocks(found):
        say(console, (f"\n{block.title}", "bold"))
        for text in block.text:
            say(console, text)
        if block.rows:
            terminal.show(console, terminal.table(block.header, block.rows))


def _json(found: "Comparison") -> str:
    from jaxnas.evaluation import report

    return json.dumps(report.plain(found), indent=2, allow_nan=False)


def _once(runs: Sequence[Path]) -> Sequence[Path]:
    """Folders, each given once."""
    places: dict[Path, Path] = {}
    for one in runs:
        if one.resolve() in places:
            raise ValueError(f"{one} was given twice: a run counts once.")
        places[one.resolve()] = one
    return runs
