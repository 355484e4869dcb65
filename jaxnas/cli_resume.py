"""What a command was asked for: on the command line, in a file, in the folder of a run, in this order.

Where in the river: the outermost shore, under `cli`. Knows options by name; nothing of what they mean. What a run was
asked for is kept in its folder, so that `--resume` needs no other option.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import typer

from jaxnas import cli_settings
from jaxnas.cli_settings import CHANGES

SAME = {"alpha_rate": "alpha.rate"}  # options that are settings, too: what is given nearer is meant
PATHS = ("data_dir",)  # options that are paths; kept as absolute ones


class Asked(NamedTuple):
    """Options, and where each came from."""

    options: dict[str, Any]
    sources: dict[str, str]  # by option, and by the name of each setting that was given; the others are usual

    def of(self, names: Iterable[str]) -> dict[str, Any]:
        """Some of the options.

        Args:
          names: theirs.
        """
        return {name: self.options[name] for name in names}


def asked(
    context: typer.Context, names: Iterable[str], out: Path | None, resume: bool, config: Path | None = None
) -> Asked:
    """Options by name: as typed; else as the file has them; else, where a run is continued, as the run has them.

    Args:
      context: of the command.
      names: options that may come from a file or a run, CHANGES among them.
      out: folder of the run.
      resume: whether it is continued.
      config: the file, of --config.

    Raises:
      ValueError: where a run is to be continued, and no folder is named; where the file does not say what it should.
    """
    if resume and out is None:
        raise ValueError("--resume continues the run in a folder: name it with --out.")
    given = {name: context.params[name] for name in names}
    typed = {name: value for name, value in given.items() if _was_typed(context, name)}
    if CHANGES in typed:
        typed[CHANGES] = cli_settings.parsed(typed[CHANGES])
    before = _kept(Path(out)) if resume and out else {}
    layers = [
        (f"the run in {out}", {name: before[name] for name in given if before.get(name) is not None}),
        (str(config), cli_settings.read(config, context, given) if config else {}),
        ("command line", typed),
    ]
    options, sources = {**given, CHANGES: {}}, dict[str, str]()
    for source, layer in layers:
        changes = layer.pop(CHANGES, None) or {}
        for option, setting in SAME.items():
            options |= {option: None} if setting in changes and option in options else {}
            options[CHANGES] = {k: v for k, v in options[CHANGES].items() if k != setting or option not in layer}
        options |= {**layer, CHANGES: {**options[CHANGES], **changes}}
        sources |= dict.fromkeys([*layer, *changes], source)
    paths = {name: Path(options[name]) for name in PATHS if options.get(name)}
    return Asked(options | paths, sources)


def record(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same for config.json.

    Args:
      options: of `asked`.
    """
    from jaxnas.folder import ASKED

    plain = lambda value: str(value.absolute()) if isinstance(value, Path) else value
    return {ASKED: {name: plain(value) for name, value in options.items()}}


def _was_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT", "PROMPT")


def _kept(out: Path) -> dict[str, Any]:
    """What the folder's record says; nothing where it is damaged or older, which is told elsewhere."""
    from jaxnas.folder import ASKED

    try:
        found = json.loads((out / "config.json").read_text(encoding="utf-8")).get(ASKED, {})
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
