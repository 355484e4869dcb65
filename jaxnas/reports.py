"""The page of a run, written into its folder.

Where in the river: below it, beside `folder`. Reads what the folder holds; `run_page` makes the page.
"""

import errno
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxnas import folder
from jaxnas.spaces.genotype import read
from jaxnas.spaces.space import Space

if TYPE_CHECKING:
    from jaxnas.evaluation.run_page import Run

NAME = "report.html"


def leave(run: Path, space: Space | None, out: Path | None = None) -> Path:
    """Writes the page of a run, which may still be going on; the file.

    Args:
      run: its folder.
      space: what it searches, for the names of edges; they are numbered where it is not known.
      out: where to; `report.html` in the folder unless given.

    Raises:
      FileNotFoundError: where no run was started.
    """
    from jaxnas.evaluation.run_page import page  # and matplotlib

    if not (run / "config.json").exists():
        raise FileNotFoundError(errno.ENOENT, f"no config.json in {run}: is it the folder of a run?")
    out = out or run / NAME
    folder.write(out, page(told(run, space)))
    return out


def told(run: Path, space: Space | None) -> "Run":
    """What the folder of a run says.

    Args:
      run: the folder.
      space: what it searches, where that is known.
    """
    from jaxnas.evaluation.run_page import Run

    path = run / "genotype.json"
    genotype = read(path.read_text(encoding="utf-8")) if path.exists() else None
    config, result = _json(run / "config.json"), _json(run / "result.json")
    found, scores = folder.read_records(run), folder.read_scores(run)
    edges, inputs = (space.edges, space.inputs) if space else (None, None)
    return Run(run.resolve().name, config, result, found, scores, genotype, edges, inputs)


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
