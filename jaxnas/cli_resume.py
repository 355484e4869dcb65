"""What a command was asked for, kept in its folder, so that `--resume` needs no other option.

Where in the river: the outermost shore, under `cli`. Knows options by name; nothing of what they mean.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

from jaxnas.folder import ASKED

PATHS = ("data_dir",)  # options that are paths; kept as absolute ones


def asked(context: typer.Context, names: Iterable[str], out: Path | None, resume: bool) -> dict[str, Any]:
    """Options by name: as they were given; where a run is continued, what was not given is as the run has it.

    Args:
      context: of the command.
      names: options that belong to a run, and not to one sitting.
      out: folder of the run.
      resume: whether it is continued.

    Raises:
      ValueError: where a run is to be continued, and no folder is named.
    """
    if resume and out is None:
        raise ValueError("--resume continues the run in a folder: name it with --out.")
    given = {name: context.params[name] for name in names}
    before = _kept(Path(out)) if resume and out else {}
    typed = {name for name in given if _was_typed(context, name)}
    found = {name: before[name] for name in given if name in before and name not in typed}
    return given | {name: Path(value) if value and name in PATHS else value for name, value in found.items()}


def record(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same for config.json.

    Args:
      options: of `asked`.
    """
    plain = lambda value: str(value.absolute()) if isinstance(value, Path) else value
    return {ASKED: {name: plain(value) for name, value in options.items()}}


def _was_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT", "PROMPT")


def _kept(out: Path) -> dict[str, Any]:
    """What the folder's record says; nothing where it is damaged or older, which is told elsewhere."""
    try:
        found = json.loads((out / "config.json").read_text(encoding="utf-8")).get(ASKED, {})
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
