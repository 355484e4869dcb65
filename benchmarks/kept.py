"""Reports of programs that were compiled before, found again by what the programs say.

Rows of the table of methods often differ in a rate or a decay only, and a compiler treats these programs alike. A
report counts kernels and bytes, no number of the program, so that it holds for all programs of one text but for their
constants. Constants that a compiler may fold away (0, 1, 2, their negatives and halves) tell programs apart.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxnas.folder import write

CONSTANT = re.compile(r"dense<(-?\d\.\d+[eE][+-]\d+)> : tensor<f")
FOLDED = {sign * value for sign in (1, -1) for value in (0.0, 0.5, 1.0, 2.0)}


def place(folder: Path, text: str, *, target: str, options: Mapping[str, str], versions: Mapping[str, str]) -> Path:
    """File of the report of a program, there or not.

    Args:
      folder: where reports are kept.
      text: the program as it was lowered.
      target: what it is compiled for.
      options: of the compiler.
      versions: of what compiles.
    """
    alike = CONSTANT.sub(lambda found: found[0] if float(found[1]) in FOLDED else "dense<number> : tensor<f", text)
    told = json.dumps([target, dict(options), dict(versions), alike], sort_keys=True)
    return folder / f"{hashlib.sha256(told.encode()).hexdigest()[:24]}.json"


def recall(path: Path) -> dict[str, Any] | None:
    """A report that was kept, or None.

    Args:
      path: where it would be.
    """
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def keep(path: Path, report: Mapping[str, Any]) -> None:
    """Keeps a report.

    Args:
      path: where; its folder is made if missing.
      report: of a program that compiled.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, json.dumps(report) + "\n")
