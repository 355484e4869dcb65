"""The command line: `jaxnas lookup | tabular`, on a table of NAS-Bench-201.

Where in the river: the outermost shore, beside `cli`. Names become values in `names.py`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from jaxnas import terminal
from jaxnas.choices import TABULAR
from jaxnas.cli_help import a_genotype, a_tabular_method
from jaxnas.options import given_or, refuse
from jaxnas.terminal import clock, say

if TYPE_CHECKING:
    import numpy as np

    from jaxnas.evaluation.benchmark import Entry, Table
    from jaxnas.evaluation.tabular import History, Landscape
    from jaxnas.spaces.genotype import Genotype

_WHAT = "A run's folder, a genotype file, its text, or its number in the table."
_TABLE = "The .npz file with the table; docs/nas_bench_201.md says how to make one."
_METHOD = f"How to search: {', '.join(TABULAR)}; all of them unless given. Give it again for another."
_LABEL = "What the result is called in a comparison; the strategy of the run unless given."


def lookup(
    what: Annotated[str, typer.Argument(metavar="RUN|GENOTYPE", help=_WHAT, autocompletion=a_genotype)],
    table: Annotated[Path, typer.Option(help=_TABLE)],
    dataset: Annotated[str, typer.Option(help="Whose accuracies go into result.json.")] = "cifar10",
    label: Annotated[str | None, typer.Option(help=_LABEL)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for result.json; a new one.")] = None,
) -> None:
    """Look up what a genotype of NAS-Bench-201 is worth: accuracies, ranks, seconds, size."""
    from jaxnas import folder
    from jaxnas.evaluation import benchmark
    from jaxnas.planning import genotype_of
    from jaxnas.spaces.genotype import to_json

    refuse(label=label, dataset=dataset)
    found = benchmark.read(table)
    genotype = found.genotype(_row(found, what)) if what.strip().isdecimal() else genotype_of(what)
    entries = {name: found.look_up(genotype, dataset=name) for name in found.datasets}
    chosen = entries.get(dataset) or found.look_up(genotype, dataset=dataset)  # raises, and says what there is
    result = _result(found, chosen, genotype, what, label)
    if as_json:
        typer.echo(json.dumps(result | {"datasets": {name: _plain(one) for name, one in entries.items()}}, indent=2))
    else:
        _show_entries(Console(), found, genotype, entries)
    if out:
        with folder.explained(out):
            folder.claim(out, result["config"])
            folder.write(out / "genotype.json", to_json(genotype) + "\n")
            folder.write(out / "result.json", json.dumps(result, indent=2) + "\n")
        say(Console(stderr=True), f"written: {out / 'result.json'}")


def tabular(
    table: Annotated[Path, typer.Option(help=_TABLE)],
    method: Annotated[list[str] | None, typer.Option(help=_METHOD, autocompletion=a_tabular_method)] = None,
    runs: Annotated[int, typer.Option(min=1, help="Independent runs of each method.")] = 500,
    dataset: Annotated[str, typer.Option(help="On which the search looks at validation accuracies.")] = "cifar10",
    epochs: Annotated[int, typer.Option(min=1, help="Length of the trainings it looks at.")] = 12,
    seconds: Annotated[float, typer.Option(help="Simulated time of a run; 12000 is published.")] = 12000.0,
    evaluations: Annotated[
        int | None, typer.Option(min=1, help="Most evaluations of a run; any number unless given.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for tabular.json and tabular.png; a new one.")] = None,
) -> None:
    """Search a table by random search, aging evolution, local search and REINFORCE: mean and s.d. over many runs."""
    import jax

    from jaxnas import drawing, folder, names, planning
    from jaxnas.evaluation import benchmark
    from jaxnas.evaluation.tabular import Budget, landscape, search
    from jaxnas.record import environment

    refuse(runs=runs, epochs=epochs, seconds=seconds, evaluations=evaluations, seed=seed, dataset=dataset)
    with clock(Console(stderr=True), "reading the table"):
        found, budget = benchmark.read(table), Budget(seconds, evaluations)
        scene, methods = landscape(found, dataset, epochs), list(dict.fromkeys(method or TABULAR))
    chosen = {name: planning.named(names.TABULAR, name, "method") for name in methods}
    config = {"table": found.name, "method": methods, "runs": runs, "dataset": dataset, "epochs": epochs}
    config |= {"seconds": seconds, "evaluations": evaluations, "seed": seed}
    if out:
        with folder.explained(out):
            folder.claim(out, config)
    histories = {}
    for name, make in chosen.items():
        with clock(Console(stderr=True), f"searching by {name}"):
            histories[name] = search(make(), scene, jax.random.key(seed), runs=runs, budget=budget)
    rows = {name: _summary(found, history) for name, history in histories.items()}
    rows["best by valid"] = _summary(found, _best(found, dataset))
    console = Console()
    _show_summaries(console, f"{runs} runs on {found.name}, {seconds:g} s on {dataset}", found.datasets, rows)
    if out:
        with folder.explained(out), clock(console, "drawing"):
            figure = _picture(found, scene, dataset, histories)
            drawing.save(figure, out / "tabular.png")
            answers = {name: history.answers.tolist() for name, history in histories.items()}
            result = {"kind": "tabular", **environment(), "config": config, "summary": rows, "answers": answers}
            folder.write(out / "tabular.json", json.dumps(result, indent=2) + "\n")
        say(console, f"written: {out}: tabular.json, tabular.png")


def _row(table: "Table", index: str) -> int:
    if not int(index) < len(table):
        raise ValueError(f"{index} is no cell of {table.name}: it has 0 to {len(table) - 1}.")
    return int(index)


def _result(table: "Table", entry: "Entry", genotype: "Genotype", source: str, label: str | None) -> dict[str, Any]:
    """The record of a look-up, as `jaxnas compare` reads it."""
    from jaxnas.record import environment
    from jaxnas.spaces.genotype import to_json

    run = searched(Path(source))
    config = {
        "genotype": json.loads(to_json(genotype)),
        "label": given_or(label, run.get("strategy") or "genotype"),
        "source": source,
        "table": table.name,
        "dataset": entry.dataset,
        "epochs": max(epochs for _, epochs in entry.accuracy),
        "seed": run.get("seed", 0),
    }
    accuracy = {
        part: {"accuracy": value} for (part, epochs), value in entry.accuracy.items() if epochs == config["epochs"]
    }
    return {
        "kind": "lookup",
        **environment(),
        "config": config,
        "search": run or None,
        "test": accuracy.get("test"),
        "valid": accuracy.get("valid"),
        "cost": {"parameters": entry.parameters, "multiply_adds": entry.multiply_adds},
    }


def searched(path: Path) -> dict[str, Any]:
    """What the search that left this folder has to tell; empty where it is no folder of a finished search."""
    try:
        run = json.loads((path / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if run.get("kind", "search") != "search":  # what came out of a search already
        return run.get("search") or {}
    told = {name: run.get("config", {}).get(name) for name in ("strategy", "seed")}
    return told | {"seconds": run.get("seconds", {}).get("total"), "devices": run.get("devices")}


def _plain(entry: "Entry") -> dict[str, Any]:
    """An entry whose keys are text: `test_200`."""
    from jaxnas.spaces.genotype import to_nas_bench_201

    spelt = lambda found: {"_".join(map(str, key)): value for key, value in found.items()}
    one = entry._asdict() | {name: spelt(getattr(entry, name)) for name in ("accuracy", "rank", "seeds")}
    return one | {"genotype": to_nas_bench_201(entry.genotype)}


def _show_entries(console: Console, table: "Table", genotype: "Genotype", entries: "dict[str, Entry]") -> None:
    from jaxnas.spaces.genotype import to_nas_bench_201

    one = next(iter(entries.values()))
    say(console, f"row {one.row} of {len(table):,} in {table.name}: {to_nas_bench_201(one.genotype)}")
    heads = ("data set", "part", "epochs", "correct %", "single seeds", "rank", "train s")
    rows = [(name, *cells) for name, entry in entries.items() for cells in _entry_cells(entry)]
    ends = [i for i, row in enumerate(rows, 1) if row[0] != rows[i % len(rows)][0]]
    terminal.show(console, terminal.table(heads, rows, ruled=[end - 1 for end in ends]))
    size = [f"{one.parameters:,} parameters"] if one.parameters else []
    size += [f"{one.multiply_adds:,} multiply-adds"] if one.multiply_adds else []
    say(console, ", ".join(size))


def _entry_cells(entry: "Entry") -> Iterator[tuple[str, ...]]:
    """Behind the data set's name: a row for each part and number of epochs."""
    for part, epochs in sorted(entry.accuracy, key=lambda key: (key[1], key[0])):
        seeds = " ".join(f"{100 * value:.2f}" for value in entry.seeds.get((part, epochs), []))
        spent = f"{entry.train_seconds[epochs]:,.0f}" if epochs in entry.train_seconds else ""
        accuracy, rank = f"{100 * entry.accuracy[part, epochs]:.2f}", f"{entry.rank[part, epochs]:,}"
        yield part, str(epochs), accuracy, seeds, rank, spent


def _summary(table: "Table", history: "History | np.ndarray") -> dict[str, Any]:
    """Mean and sample s.d. over runs, in percent, of the answers on every data set after the longest training."""
    from jaxnas.evaluation.tabular import History

    answers = history.answers if isinstance(history, History) else history
    told: dict[str, Any] = {"runs": len(answers)}
    if isinstance(history, History):
        told["evaluations"] = float(history.evaluations.mean())
    for dataset, part in [(d, p) for d in table.datasets for p in ("valid", "test")]:
        longest = max((m.epochs for m in table.accuracy if (m.dataset, m.part) == (dataset, part)), default=None)
        if longest:
            values = 100 * table.values(dataset, part, longest)[answers]
            spread = float(values.std(ddof=1)) if len(values) > 1 else None
            told[f"{dataset}_{part}_{longest}"] = {"mean": float(values.mean()), "sd": spread}
    return told


def _best(table: "Table", dataset: str) -> "np.ndarray":
    import numpy as np

    longest = max(m.epochs for m in table.accuracy if (m.dataset, m.part) == (dataset, "valid"))
    return np.array([table.best(dataset, "valid", longest)])


def _show_summaries(console: Console, title: str, datasets, rows: dict[str, dict[str, Any]]) -> None:
    heads = ("method", "evaluations", *(f"{name}\nvalid, test %" for name in datasets))
    pairs = lambda row, d: "\n".join(_pair(v) for k, v in row.items() if k.startswith(f"{d}_"))
    evaluated = lambda row: f"{row['evaluations']:.1f}" if "evaluations" in row else ""
    cells = [(name, evaluated(row), *(pairs(row, d) for d in datasets)) for name, row in rows.items()]
    terminal.show(console, terminal.table(heads, cells, title=title, ruled=range(len(cells))))


def _pair(value: dict[str, float | None]) -> str:
    return f"{value['mean']:.2f}" + (f"±{value['sd']:.2f}" if value["sd"] is not None else "")


def _picture(table: "Table", scene: "Landscape", dataset: str, histories: "dict[str, History]"):
    import numpy as np

    from jaxnas.drawing_tables import draw_over_time
    from jaxnas.evaluation.tabular import over_time

    part = "test" if any((m.dataset, m.part) == (dataset, "test") for m in table.accuracy) else "valid"
    longest = max(m.epochs for m in table.accuracy if (m.dataset, m.part) == (dataset, part))
    values = 100 * table.values(dataset, part, longest)
    spent = [history.seconds[np.isfinite(history.seconds)].max() for history in histories.values()]
    times = np.linspace(0, max(spent), 300)
    found = {name: over_time(history, values, times) for name, history in histories.items()}
    return draw_over_time(times, found, best=float(values.max()), ylabel=f"{dataset} {part} accuracy, %")
