"""Settings on the command line and in files: `--set weights.rate=0.05`, `--config run.toml`, `--show`.

Where in the river: the outermost shore, under `cli`. Knows options and settings by name; nothing of what they mean.
"""

import json
import tomllib
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from inspect import unwrap
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer

CHANGES = "changes"  # the option --set as functions call it; in files it is the table [set]
SET = "Another number of the strategy: weights.rate=0.05. Give it again for more; --show lists all."
SET_RECIPE = "Another number of the recipe: momentum=0.8. Give it again for more; --show lists all."
CONFIG = "Options from a file: TOML as --show prints it, or the config.json of a run. What is typed counts more."
SHOW = "Print all settings as TOML, say where each came from, and do nothing else."
TAKES: dict[type, tuple[tuple[type, ...], str]] = {  # type of an option -> (types in a file, what to give)
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
    str: ((str,), "a text"),
    Path: ((str,), "a text"),
}


def parsed(texts: Collection[str]) -> dict[str, Any]:
    """{setting: value} of `--set`, in which a value is written as in TOML.

    Args:
      texts: "weights.rate=0.05".

    Raises:
      ValueError: where one has no = or is given twice.

    >>> parsed(["weights.rate=5e-2", "stages.keep=[8, 4, 2]", "relaxation.kept=none"])
    {'weights.rate': 0.05, 'stages.keep': [8, 4, 2], 'relaxation.kept': 'none'}
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, given, value = (part.strip() for part in text.partition("="))
        if not (name and given and value):
            raise ValueError(f"--set {text!r}: give a setting and its value, such as --set weights.rate=0.05.")
        if name in found:
            raise ValueError(f"--set {name} is given twice: {found[name]} and {value}; give one of them.")
        found[name] = _value(value)
    return found


def read(path: Path, context: typer.Context, names: Collection[str]) -> dict[str, Any]:
    """Options by name, of a file.

    Args:
      path: TOML, or a run's config.json.
      context: of the command, which knows its options.
      names: of those that may come from a file.

    Raises:
      ValueError: where it is neither, holds what the command does not take, or in another type.
      OSError: where it cannot be read.
    """
    found = _loaded(path)
    hints = get_type_hints(unwrap(context.command.callback or read))
    known = {name: hints[name] for name in names if name != CHANGES}
    options = {name.replace("-", "_"): value for name, value in found.items() if name != "set"}
    for name in options.keys() - known.keys():
        names = [_spelt(one) for one in known]
        near = get_close_matches(_spelt(name), names, n=2)
        meant = f" Did you mean {' or '.join(near)}?" if near else ""
        what = f"{path}: jaxnas {context.command.name} takes no {_spelt(name)!r} from a file."
        raise ValueError(f"{what}{meant} It takes {', '.join(names)}, and a table [set].")
    given = {name: value for name, value in options.items() if value is not None}
    changes = found.get("set", {})
    if not isinstance(changes, dict):
        raise ValueError(f"{path}: set = {changes!r}: give a table [set], with lines such as weights.rate = 0.05.")
    typed = {name: _typed(path, name, known[name], value) for name, value in given.items()}
    return typed | ({CHANGES: dict(_flat(changes))} if changes else {})


def toml(
    command: str,
    options: Mapping[str, Any],
    settings: Mapping[str, Any],
    sources: Mapping[str, str],
    usual: str,
    silent: Mapping[str, str],
) -> str:
    """All settings of a run in full, as `--config` reads them back, each with where it came from.

    Args:
      command: whose options they are.
      options: by name; those that are None are told as not given.
      settings: {name: value} of `--set`.
      sources: of those that were given.
      usual: where the other settings come from.
      silent: {option or setting: why} of those that are told only, since others give them.
    """
    lines = [f"# All settings of this jaxnas {command}: give the file back with --config."]
    lines += ["# Lines behind # are only told: they follow from others, or are not given."]
    lines += ["# Behind each value: where it came from."]
    for name, value in options.items():
        if value is None and name not in silent:
            lines.append(f"# {_spelt(name)} is not given")
        elif name != CHANGES:
            lines.append(_line(_spelt(name), value, sources.get(name, "default"), silent.get(name)))
    lines += ["", "[set]"]
    lines += [_line(name, value, sources.get(name, usual), silent.get(name)) for name, value in settings.items()]
    return "\n".join(lines)


def _line(name: str, value: Any, source: str, why: str | None) -> str:
    said = f"{name} = {_written(value)}"
    return f"{f'# {said}' if why else said:<40}  # {why or source}".replace("\n", " ")


def _written(value: Any) -> str:
    """A value as TOML has it; None, for which TOML has no word, as "none"."""
    if value is None:
        return '"none"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, bool | str | Path):
        value = value if isinstance(value, bool) else str(value)
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)


def _value(text: str) -> Any:
    """A value as TOML has it, or as Python writes numbers; else the text itself."""
    try:
        found = tomllib.loads(f"x = {text}")
        return found["x"] if list(found) == ["x"] else text
    except (ValueError, RecursionError):
        pass
    try:
        return float(text)
    except ValueError:
        return text


def _loaded(path: Path) -> dict[str, Any]:
    """The table of a file; of a run's record what it was asked for."""
    from jaxnas.folder import ASKED

    text = _text(path)
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"--config {path} is no config.json of a run: {error}.") from None
        options = found.get(ASKED)
        if not isinstance(options, dict):
            raise ValueError(
                f"--config {path} does not say what its run was asked for, as those of jaxnas search do: "
                "write a TOML file, as --show prints it."
            )
        return {"set" if name == CHANGES else name: value for name, value in options.items()}
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"--config {path} is no TOML: {error}.") from None


def _text(path: Path) -> str:
    if path.is_dir():
        raise ValueError(f"--config {path} is a folder: name a file, such as {path / 'config.json'}.")
    if not path.exists():
        raise ValueError(f"--config {path} is not there.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"--config {path} is not a text file: give TOML, or the config.json of a run.") from None


def _typed(path: Path, name: str, hint: Any, value: Any) -> Any:
    kind = next(kind for kind in TAKES if kind is hint or kind in get_args(hint))
    types, what = TAKES[kind]
    if not isinstance(value, types) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{path}: {_spelt(name)} = {_written(value)}: give {what}.")
    return value


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """{"weights": {"rate": 0.05}} and {"weights.rate": 0.05} alike."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _spelt(name: str) -> str:
    return name.replace("_", "-")
