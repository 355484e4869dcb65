"""Whether a run may go on: which of its settings differ from what is asked for now, and what a longer one changes.

Where in the river: beside `folder`. Knows records of settings, as plain data; no file.
"""

import json
from collections.abc import Mapping
from reprlib import repr as shortly
from typing import Any

SET = "set"  # where a record keeps the numbers of a search by name; `recipe` are those of a retraining
PART = "--set "


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings that are not the same, {name: (before, now)}; numbers that the older record does not tell are passed.

    Args:
      before, now: the records.
    """
    if SET not in before:
        now = {name: value for name, value in now.items() if name != SET}
    one, other = _flat(before), _flat(now)
    return {
        name: (one.get(name), other.get(name))
        for name in {**one, **other}
        if _plain(one.get(name)) != _plain(other.get(name)) and not _idle(name, one, other)
    }


def is_longer(found: Mapping[str, tuple[Any, Any]], before: Mapping[str, Any]) -> bool:
    """Whether all that differs is the length of a search in one stage, and it grew.

    Args:
      found: of `differing`.
      before: the older record; where it does not tell its numbers, schedules may differ too.
    """
    return list(found) == ["epochs"] and SET in before and _grew(*found["epochs"])


def told(found: Mapping[str, tuple[Any, Any]]) -> str:
    """What differs, and what to do about it.

    Args:
      found: of `differing`.
    """
    said = "; ".join(f"{name} was {shortly(before)}, now {shortly(now)}" for name, (before, now) in found.items())
    if "epochs" in found and len(found) > 1 and _grew(*found["epochs"]):
        others = [(name, before) for name, (before, _) in found.items() if name != "epochs"]
        return (
            f"{said}. More epochs would change the past of this run: go on with what it had "
            f"({', '.join(map(_option, others))}), after which its schedules stay where they ended; "
            "or start the longer search in another folder."
        )
    if "epochs" in found and all(isinstance(one, list) and len(one) > 1 for one in found["epochs"]):
        return f"{said}. The stages of a search have the length that they had: start another one in another folder."
    return f"{said}. Give the same settings to --resume."


def _option(setting: tuple[str, Any]) -> str:
    name, value = setting
    return f"{name}={value}" if name.startswith(PART) else f"--{name.replace('_', '-')} {value}"


def _grew(before: Any, now: Any) -> bool:
    lengths = all(isinstance(one, list) and len(one) == 1 and isinstance(one[0], int) for one in (before, now))
    return lengths and now[0] > before[0]


def _idle(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether this is how long, or in how many stairs, a number changes that stays as it is."""
    whole, _, part = name.rpartition("_")
    if not name.startswith(PART) or part not in ("steps", "every"):
        return False
    ends = [f"{whole}_{end}" for end in ("end", "start") if f"{whole}_{end}" in one]
    return bool(ends) and len({_plain(found.get(end)) for found in (one, other) for end in (whole, *ends)}) == 1


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record whose numbers of the search, or of the recipe, are settings of their own."""
    found = dict(record)
    for name, before in ((SET, PART), ("recipe", "recipe.")):
        if isinstance(found.get(name), dict):
            found |= {f"{before}{key}": value for key, value in found.pop(name).items()}
    return found


def _plain(value: Any) -> str:
    """NaN is the same as NaN."""
    return json.dumps(value, sort_keys=True)
