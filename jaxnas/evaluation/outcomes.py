"""What a finished run says about its method, read from its folder: a retraining, a look into a table, or a search.

Where in the river: on the bank. Knows the JSON of a run's folder; no arrays, no alpha, and nothing that could run.
"""

import errno
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxnas.precision import UNSAID

Json = Mapping[str, Any]
KINDS = {  # what a result measures, and the settings that have to be equal for two of its kind to be comparable
    "evaluation": ("dataset", "fraction", "images", "network", "recipe", "precision"),
    "lookup": ("table", "dataset", "fraction", "images", "network", "recipe", "epochs", "metric"),
    "search": ("dataset", "fraction", "space", "channels", "depth", "batch", "epochs", "precision"),
}


class Outcome(NamedTuple):
    """One run, as a comparison needs it. None where the record does not say."""

    name: str  # of its folder, as it was given
    kind: str
    method: str
    seed: int | None
    search_seed: int | None  # of the search that found the genotype
    genotype: str  # JSON in one form, so that equal ones are equal
    source: str | None
    split: str | None  # digest of the images' split
    accuracy: float | None  # 0 to 1: on the test images; of a search, the supernet's on alpha's half
    valid: float | None
    parameters: int | None
    multiply_adds: int | None
    search_seconds: float | None
    search_device: str | None
    seconds: float | None  # of the training
    device: str | None  # that trained
    temporaries: int | None  # of the compiled program, bytes
    memory: int | None  # peak of the device, or of the process where the device does not tell, bytes
    versions: Mapping[str, str]
    terms: Mapping[str, Any]  # {setting: value}: what has to be equal


def read(folder: Path | str) -> Outcome:
    """The outcome of a run, from `result.json` in its folder.

    Args:
      folder: of `jaxnas search`, of a retraining, or of a look into a table.

    Raises:
      FileNotFoundError: where there is none, because the run has not finished or this is no run.
      ValueError: where it says too little to be compared, or nonsense.
    """
    path = Path(folder) / "result.json"
    if not path.is_file():
        advice = f"no result.json in {folder}: is it the folder of a run, and has the run finished (--resume)?"
        raise FileNotFoundError(errno.ENOENT, advice)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return outcome(record, str(folder))
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{path} is not the record of a run that can be compared ({what}): make the run anew."
        ) from None


def outcome(record: Json, name: str) -> Outcome:
    """The outcome that a record tells; see `read`.

    Args:
      record: what `result.json` holds.
      name: of the run, for errors.
    """
    kind = record.get("kind", "search")
    if kind not in KINDS:
        raise ValueError(f"{name} is a run of kind {kind!r}; compared are {', '.join(KINDS)}.")
    found = _searched(record, name) if kind == "search" else _judged(record, name)
    for what in ("accuracy", "valid"):
        _check(found[what], what, name, may_lack=kind == "search" or what == "valid")
    config, genotype = record["config"], found.pop("genotype")
    made = Outcome(
        name=name,
        kind=kind,
        genotype=json.dumps(genotype, sort_keys=True),
        split=config.get("split"),
        temporaries=(record.get("memory_bytes") or {}).get("temp"),
        memory=(record.get("memory_bytes") or {}).get("peak"),
        versions=record.get("versions") or {},
        terms={"kind": kind, "space": genotype["space"], **_terms(config, KINDS[kind])},
        **found,
    )
    _check_types(made)
    return made


def _searched(record: Json, name: str) -> dict[str, Any]:
    """A search: its score is the accuracy of the supernet on the images that moved alpha, if any did."""
    config, seconds = record["config"], _total(record.get("seconds"))
    if not config.get("strategy"):
        raise ValueError(f"{name} does not name its strategy: run with settings={{'strategy': ...}}.")
    score, seed = record["answer"].get("valid_accuracy"), config.get("seed")
    told = {"method": config["strategy"], "seed": seed, "search_seed": seed, "source": None}
    spent = {"search_seconds": seconds, "search_device": (record.get("devices") or {}).get("kind"), "seconds": None}
    spent |= {"device": None}
    size = {"parameters": None, "multiply_adds": None}
    return {**told, **spent, **size, "genotype": record["genotype"], "accuracy": score, "valid": score}


def _judged(record: Json, name: str) -> dict[str, Any]:
    """A retraining or a look into a table: its score is the accuracy on the test images."""
    config, search, cost = record["config"], record.get("search") or {}, record.get("cost") or {}
    method = config.get("label") or search.get("strategy")
    if not method:
        raise ValueError(f"{name} does not name its method: give the run a label (--label).")
    told = {"method": str(method), "seed": config.get("seed"), "search_seed": search.get("seed")}
    device = (search.get("devices") or {}).get("kind")
    spent = {"search_seconds": _total(search.get("seconds")), "search_device": device}
    trained = record["kind"] == "evaluation"  # a table is read on any device
    spent |= {"device": (record.get("devices") or {}).get("kind") if trained else None}
    if not record.get("test"):
        raise ValueError(f"{name} has no accuracy on test images: nothing to compare it by.")
    scores = {"accuracy": record["test"]["accuracy"], "valid": (record.get("valid") or {}).get("accuracy")}
    size = {size: cost.get(size) for size in ("parameters", "multiply_adds")}
    rest = {"source": config.get("source"), "seconds": _total(record.get("seconds")), "genotype": config["genotype"]}
    return {**told, **spent, **scores, **size, **rest}


def _total(seconds: Json | float | None) -> float | None:
    return seconds["total"] if isinstance(seconds, Mapping) else seconds


def _check(value: Any, what: str, name: str, *, may_lack: bool) -> None:
    if value is None and may_lack:
        return
    if not isinstance(value, (int, float)) or not math.isfinite(value) or not 0 <= value <= 1:
        raise ValueError(f"{name}: {what} is {value!r}; a comparison needs a fraction from 0 to 1.")


def _check_types(found: Outcome) -> None:
    """What is not a number would be found out only where it is shown."""
    for field, kinds in TYPES.items():
        value = getattr(found, field)
        if not (value is None or (isinstance(value, kinds) and not isinstance(value, bool) and value == value)):
            raise ValueError(f"{found.name}: {field} is {value!r}, which is no {kinds[0].__name__}: make the run anew.")


TYPES: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("method", "source", "split", "search_device", "device"), (str,)),
    **dict.fromkeys(("seed", "search_seed"), (int,)),
    **dict.fromkeys(("parameters", "multiply_adds", "temporaries", "memory"), (int, float)),
    **dict.fromkeys(("search_seconds", "seconds"), (float, int)),
    "versions": (dict,),
}


def _terms(config: Json, names: tuple[str, ...]) -> dict[str, Any]:
    """Settings by dotted names: {"network.channels": 36}."""
    found: dict[str, Any] = {}
    for name in names:
        value = config.get(name, UNSAID.get(name))
        found |= flat(value, name) if isinstance(value, Mapping) else {name: value}
    return found


def flat(record: Json, name: str = "") -> dict[str, Any]:
    """A record without nesting.

    Args:
      record: nested dictionaries.
      name: what stands before every name.

    >>> flat({"recipe": {"epochs": 600, "cutout": {"side": 16}}})
    {'recipe.epochs': 600, 'recipe.cutout.side': 16}
    """
    found: dict[str, Any] = {}
    for key, value in record.items():
        dotted = f"{name}.{key}" if name else str(key)
        found |= flat(value, dotted) if isinstance(value, Mapping) else {dotted: value}
    return found
