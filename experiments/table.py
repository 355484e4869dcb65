"""The table of all reproductions: ours beside the paper's, from the results that are kept.

    python -m experiments.table                      # writes experiments/README.md from experiments/results/*.json
    python -m experiments.table runs/pc_darts-0      # keeps the results of finished runs first

Every file and every variant has its row, whether it has been run or not.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from experiments.reproduction import Expected

FOLDER = Path(__file__).parent
NOT_RUN = "not run"
HEAD = """# Reproductions

One file for each: its docstring promises, its `recipe` holds the paper's settings, and

```
python -m experiments.pc_darts --data-dir DIR --seed 0    # searches, trains the answer from scratch, tests it once
python -m experiments.pc_darts --smoke                    # a few steps on noise: does it run at all?
```

leaves `result.json` in `--out`; `--resume` goes on after a break. Errors are those of the test images, in percent, mean
± s.d. over n seeds, each with a search and a training of its own. Parameters are in millions, the search in hours of
the device. What differs from the papers is said in each file. The papers' numbers are mostly as a review cites them (Li
et al. 2022, Journal of Software 33(1), table 2); where their column is empty, there is no number, or none that we have
checked.

This page is made by `python -m experiments.table RUN ...` from `results/*.json`, which keeps the results of RUN there.

"""
COLUMNS = (
    "file",
    "what",
    "error, paper",
    "n",
    "error, ours",
    "n",
    "parameters, paper",
    "ours",
    "search, hours",
    "device",
)


def reproductions() -> Iterator[ModuleType]:
    """The files that promise something, by name."""
    for path in sorted(FOLDER.glob("*.py")):
        if "EXPECTED = " in path.read_text(encoding="utf-8") and path != Path(__file__):
            yield import_module(f"experiments.{path.stem}")


def variants(module: ModuleType) -> dict[str, Expected]:
    """What the paper says of each variant of a file, by the name of its runs."""
    stem, found = module.__name__.rpartition(".")[2], module.EXPECTED
    return {f"{stem} {name}": one for name, one in found.items()} if isinstance(found, Mapping) else {stem: found}


def results(folder: Path = FOLDER / "results") -> dict[str, list[dict[str, Any]]]:
    """The kept records by the name of their runs.

    Raises:
      ValueError: for two records of one seed, or one of no file that there is.
    """
    names = [name for module in reproductions() for name in variants(module)]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["experiment"] not in found:
            raise ValueError(
                f"{path}: there is no reproduction {record['experiment']!r}; there are {', '.join(names)}."
            )
        if record["seed"] in [other["seed"] for other in found[record["experiment"]]]:
            raise ValueError(f"{path}: seed {record['seed']} of {record['experiment']} has a result already: keep one.")
        found[record["experiment"]].append(record)
    return found


def keep(run: Path, folder: Path = FOLDER / "results") -> Path:
    """Copies the result of a finished run to where the table looks.

    Raises:
      ValueError: for a smoke run, which measures nothing.
    """
    record = json.loads((run / "result.json").read_text(encoding="utf-8"))
    if record["smoke"]:
        raise ValueError(f"{run} was run with --smoke, on noise: it measures nothing. Keep runs of full size.")
    path = folder / f"{record['experiment'].replace(' ', '-')}-{record['seed']}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def row(name: str, what: str, paper: Expected, runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The cells of one line."""
    stem, _, variant = name.partition(" ")
    said = [_mean(paper.error, paper.deviation), _number(paper.runs, "d")]
    ours = [_over(runs, "error", 1.0), str(len(runs))] if runs else [NOT_RUN, ""]
    sizes = [_number(paper.parameters, ".1f"), _over(runs, "parameters", 1e6)]
    devices = sorted({f"{run['devices']['used']} x {run['devices']['kind']}" for run in runs})
    spent = [_over(runs, "search_seconds", 3600.0), "; ".join(devices)]
    return [f"[{stem}]({stem}.py) {variant}".strip(), what, *said, *ours, *sizes, *spent]


def _over(runs: Sequence[Mapping[str, Any]], name: str, unit: float) -> str:
    values = [run["measured"][name] / unit for run in runs if run["measured"][name] is not None]
    if not values:
        return ""
    return _mean(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


def _mean(value: float | None, deviation: float | None) -> str:
    return _number(value, ".2f") + (f" ± {deviation:.2f}" if deviation is not None else "")


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


def markdown(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The page, from the records of each reproduction."""
    rows = [list(COLUMNS), ["---"] * len(COLUMNS)]
    for module in reproductions():
        what = (module.__doc__ or "").split("\n")[0].rstrip(".")
        rows += [row(name, what, paper, found[name]) for name, paper in variants(module).items()]
    return HEAD + "\n".join("| " + " | ".join(cells) + " |" for cells in rows) + "\n"


if __name__ == "__main__":
    for run in sys.argv[1:]:
        print(keep(Path(run)))
    (FOLDER / "README.md").write_text(markdown(results()), encoding="utf-8")
