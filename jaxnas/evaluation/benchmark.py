"""NAS-Bench-201 as arrays: what every genotype of the space is worth, looked up instead of trained.

Where in the river: the way out, past alpha. Knows genotypes and one file of plain arrays; no networks, no strategy.
`docs/nas_bench_201.md` describes the file, `official_table.py` writes it from the official data.
"""

import dataclasses
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnas.evaluation.rows import EDGES, places_of
from jaxnas.evaluation.rows import codes as codes
from jaxnas.evaluation.rows import find as find
from jaxnas.evaluation.rows import number as number
from jaxnas.spaces.genotype import Genotype, from_nas_bench_201, genotype

NAME = "nas_bench_201"
_ACCURACY = re.compile(r"(\w+?)_(valid|test|valtest)_(\d+)")
_SEEDS = re.compile(r"(\w+?)_(valid|test|valtest)_(\d+)_seeds")
_SECONDS = re.compile(r"(\w+?)_train_seconds_(\d+)")
_VALIDATION = re.compile(r"(\w+?)_valid_seconds")
_PARAMETERS = re.compile(r"(\w+?)_params_m")
_PRODUCTS = re.compile(r"flops_m_(\w+)")


class Measure(NamedTuple):
    """What was measured: on which images, after how many epochs of training."""

    dataset: str  # cifar10, cifar100, imagenet16_120
    part: str  # valid, test, or valtest: the official test images, which valid and test halve
    epochs: int


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """All architectures, A of them in the table's own order; accuracies between 0 and 1. See `read`."""

    name: str
    ops: np.ndarray  # [A, 6] columns of op_names, edges 0>1, 0>2, 1>2, 0>3, 1>3, 2>3
    op_names: tuple[str, ...]
    accuracy: Mapping[Measure, np.ndarray]  # [A], mean over seeds
    seeds: Mapping[Measure, np.ndarray]  # [A, S], NaN where a seed was not trained
    train_seconds: Mapping[tuple[str, int], np.ndarray]  # (dataset, epochs) -> [A], of one training
    valid_seconds: Mapping[str, np.ndarray]  # dataset -> [A], one pass over the validation images; may be empty
    parameters: Mapping[str, np.ndarray]  # dataset -> [A]
    multiply_adds: Mapping[str, np.ndarray]  # dataset -> [A], for one image
    latency_ms: Mapping[str, np.ndarray]  # device -> [A], milliseconds
    places: np.ndarray  # [O^6] row of every architecture by its code, -1 where there is none

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the data sets it has accuracies for."""
        return tuple(dict.fromkeys(measure.dataset for measure in self.accuracy))

    def __len__(self) -> int:
        return len(self.ops)

    def find(self, ops: np.ndarray) -> np.ndarray:
        """Rows [...] of architectures given as columns of op_names [..., 6].

        Raises:
          ValueError: for another shape, columns that do not exist, or an architecture that is not in the table.
        """
        return find(ops, self.places, self.op_names)

    def row(self, genotype: Genotype) -> int:
        """The row of a genotype: one operation on each of the six edges, in any order.

        Raises:
          ValueError: where it is not of this space.
        """
        return int(self.find(codes(genotype, self.op_names)))

    def genotype(self, row: int) -> Genotype:
        """The genotype in one row."""
        rows = [(self.op_names[op], *edge) for op, edge in zip(self.ops[row], EDGES, strict=True)]
        return genotype(NAME, {"cell": rows}, {"cell": [3]})

    def values(self, dataset: str, part: str, epochs: int = 200) -> np.ndarray:
        """Accuracies [A] of all rows.

        Raises:
          ValueError: where the table does not hold them; says what it holds.
        """
        found = self.accuracy.get(Measure(dataset, part, epochs))
        if found is None:
            held = ", ".join(f"{d} {p} {e}" for d, p, e in self.accuracy)
            raise ValueError(f"{self.name} has no {part} accuracy on {dataset} after {epochs} epochs; it has {held}.")
        return found

    def look_up(self, genotype: Genotype | int, *, dataset: str = "cifar10") -> "Entry":
        """All that is known of a genotype, or of a row, on one data set.

        Raises:
          ValueError: where it is not of this space, or the data set not in the table.
        """
        row = self.row(genotype) if isinstance(genotype, Genotype) else int(genotype)
        if dataset not in self.datasets or not 0 <= row < len(self):
            told = f"row {row} of {len(self)}, data set {dataset!r}"
            raise ValueError(f"{self.name}: {told}; it has {', '.join(self.datasets)}.")
        mine = [measure for measure in self.accuracy if measure.dataset == dataset]
        several = {m: self.seeds[m][row] for m in self.seeds if m.dataset == dataset}
        return Entry(
            row=row,
            genotype=self.genotype(row),
            dataset=dataset,
            accuracy={(m.part, m.epochs): float(self.accuracy[m][row]) for m in mine},
            rank={(m.part, m.epochs): rank(self.accuracy[m], row) for m in mine},
            seeds={(m.part, m.epochs): [float(v) for v in found if not np.isnan(v)] for m, found in several.items()},
            train_seconds={e: float(s[row]) for (d, e), s in self.train_seconds.items() if d == dataset},
            parameters=_whole(self.parameters, dataset, row),
            multiply_adds=_whole(self.multiply_adds, dataset, row),
            latency_ms={device: float(ms[row]) for device, ms in self.latency_ms.items()},
        )

    def best(self, dataset: str, part: str = "valid", epochs: int = 200) -> int:
        """The row of the highest accuracy, the first of equals; found by looking at all."""
        return int(self.values(dataset, part, epochs).argmax())


class Entry(NamedTuple):
    """One row on one data set; accuracies between 0 and 1, means over seeds, by (part, epochs)."""

    row: int
    genotype: Genotype
    dataset: str
    accuracy: dict[tuple[str, int], float]
    rank: dict[tuple[str, int], int]  # 1 is the best of the table
    seeds: dict[tuple[str, int], list[float]]
    train_seconds: dict[int, float]  # by epochs
    parameters: int | None
    multiply_adds: int | None  # counted on CIFAR-10 images by some tables: None for other data sets then
    latency_ms: dict[str, float]  # by device


def rank(values: np.ndarray, row: int) -> int:
    """1 + number of rows with a higher value: equals share a rank.

    Args:
      values: [rows].
      row: whose rank.
    """
    return 1 + int((values > values[row]).sum())


def read(path: Path | str) -> Table:
    """The table in a file of plain arrays; nothing in it is ever run.

    Args:
      path: `.npz` as `docs/nas_bench_201.md` describes it: `ops`, `op_names` and one accuracy at least.

    Raises:
      FileNotFoundError: where there is no such file.
      ValueError: where it is not such a file: pickled, cut short, or its arrays contradict each other; says which.

    Reference: Dong and Yang 2020, NAS-Bench-201, arXiv:2001.00326. Cells that compute the same under other names are
      rows of their own, as in the official data.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(2, "no table in this file (docs/nas_bench_201.md says how to make one)", str(path))
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is not an .npz of plain arrays: {error}") from error
    return table(arrays, path.stem)


def table(arrays: Mapping[str, np.ndarray], name: str = "table") -> Table:
    """The table in these arrays, named as in the file; see `read`.

    Args:
      arrays: {name: array}, as `read` describes them.
      name: what the table is called.
    """
    missing = {"ops", "op_names"} - set(arrays)
    if missing:
        raise ValueError(f"{name} lacks {', '.join(sorted(missing))}; it holds {', '.join(sorted(arrays))[:200]}.")
    ops, op_names = np.asarray(arrays["ops"]), tuple(str(op) for op in arrays["op_names"])
    places = places_of(ops, op_names, name)
    _check_names(arrays, ops, op_names, name)
    of = lambda pattern, *axes: _matching(arrays, pattern, (len(ops), *axes), name)
    accuracy = {Measure(d, part, int(epochs)): _share(v, name) for (d, part, epochs), v in of(_ACCURACY).items()}
    if not accuracy:
        raise ValueError(f"{name} holds no accuracies; they are named like cifar10_test_200.")
    return Table(
        name=name,
        ops=ops,
        op_names=op_names,
        accuracy=accuracy,
        seeds={Measure(d, p, int(e)): _share(v, name) for (d, p, e), v in of(_SEEDS, -1).items()},
        train_seconds={(d, int(epochs)): v for (d, epochs), v in of(_SECONDS).items()},
        valid_seconds={d: v for (d,), v in of(_VALIDATION).items()},
        parameters={d: 1e6 * v for (d,), v in of(_PARAMETERS).items()},
        multiply_adds={d: 1e6 * v for (d,), v in of(_PRODUCTS).items()},
        latency_ms=_latencies(arrays, len(ops), name),
        places=places,
    )


def _check_names(arrays: Mapping[str, np.ndarray], ops: np.ndarray, op_names: tuple[str, ...], name: str) -> None:
    """`arch`, where given, must spell the same architectures as `ops`."""
    if "arch" not in arrays:
        return
    if arrays["arch"].shape != (len(ops),):
        raise ValueError(f"{name}: arch has the shape {arrays['arch'].shape}, ops has {len(ops)} rows.")
    for row in {0, len(ops) // 2, len(ops) - 1}:
        found = codes(from_nas_bench_201(str(arrays["arch"][row])), op_names)
        if (found != ops[row]).any():
            raise ValueError(f"{name}: row {row} is {arrays['arch'][row]} in arch but {ops[row].tolist()} in ops.")


def _matching(arrays: Mapping[str, np.ndarray], pattern: re.Pattern, shape: tuple[int, ...], name: str):
    """{groups of the pattern: array} of all names that match; -1 in a shape stands for any length."""
    found = {}
    for key, value in arrays.items():
        match = pattern.fullmatch(key)
        if match is None:
            continue
        fits = value.ndim == len(shape) and all(n in (m, -1) for m, n in zip(value.shape, shape, strict=True))
        if not fits or value.dtype.kind not in "fiu":
            raise ValueError(f"{name}: {key} is {value.dtype} {value.shape}, expected numbers of shape {shape}.")
        found[match.groups()] = value.astype(float)
    return found


def _share(percent: np.ndarray, name: str) -> np.ndarray:
    if (percent < 0).any() or (percent > 100).any() or (percent.ndim == 1 and np.isnan(percent).any()):
        raise ValueError(f"{name}: accuracies are percentages, 0 to 100, and only single seeds may be missing (NaN).")
    return percent / 100


def _latencies(arrays: Mapping[str, np.ndarray], rows: int, name: str) -> dict[str, np.ndarray]:
    if "latency_ms" not in arrays:
        return {}
    devices, values = [str(device) for device in arrays.get("latency_devices", ())], arrays["latency_ms"]
    if values.shape != (rows, len(devices)):
        raise ValueError(f"{name}: latency_ms is {values.shape} for {len(devices)} latency_devices and {rows} rows.")
    return dict(zip(devices, values.T.astype(float), strict=True))


def _whole(columns: Mapping[str, np.ndarray], dataset: str, row: int) -> int | None:
    return round(columns[dataset][row]) if dataset in columns else None
