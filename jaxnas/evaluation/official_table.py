"""The official NAS-Bench-201 data -> a file of plain arrays, once.

Where in the river: upstream of `benchmark.py`. Takes the object of the official API, which its user has loaded: that
file is a pickle (torch), and unpickling runs what it holds, so nothing here opens it.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.evaluation.benchmark import codes, table
from jaxnas.spaces.genotype import from_nas_bench_201

OP_NAMES = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
SOURCES = {  # (data set, part) -> (the API's data set, its key)
    ("cifar10", "valid"): ("cifar10-valid", "valid-accuracy"),  # trained on one half, validated on the other
    ("cifar10", "test"): ("cifar10", "test-accuracy"),  # trained on all
    ("cifar100", "valid"): ("cifar100", "valid-accuracy"),
    ("cifar100", "test"): ("cifar100", "test-accuracy"),
    ("imagenet16_120", "valid"): ("ImageNet16-120", "valid-accuracy"),
    ("imagenet16_120", "test"): ("ImageNet16-120", "test-accuracy"),
}
TRAINED = {"cifar10": "cifar10-valid", "cifar100": "cifar100", "imagenet16_120": "ImageNet16-120"}  # whose seconds
SEEDS = (777, 888, 999)


def convert(
    api: Any,
    path: Path | str,
    *,
    epochs: Iterable[int] = (12, 200),
    watch: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Path:
    """Writes what `benchmark.read` reads, from an object of the official `nas_201_api.NASBench201API`.

    Args:
      api: the loaded API (v1.1 or later). Used are `len(api)`, `api.arch(i)`, `api.get_more_info(i, dataset, hp=,
        is_random=)` and `api.get_cost_info(i, dataset)`.
      path: `.npz` to write.
      epochs: which trainings: 12 and 200 are in the official file.
      watch: goes over the rows, to show progress: `rich.progress.track`.

    Raises:
      ValueError: where the API names an architecture that is not of this space, or the path does not end in .npz.

    Reference: D-X-Y/NAS-Bench-201 `nas_201_api/api_201.py`.
    Deviates: seconds of cifar10 are those of its half of the training images ("cifar10-valid").
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"the table is an .npz file, got {path.name!r}.")
    rows = [_row(api, index, tuple(epochs)) for index in watch(range(len(api)))]
    arrays = {key: np.array([row[key] for row in rows]) for key in rows[0]} | {"op_names": np.array(OP_NAMES)}
    table(arrays, path.stem)  # checked before it is written
    part = path.with_name(path.stem + ".part.npz")
    np.savez_compressed(part, allow_pickle=False, **arrays)
    os.replace(part, path)
    return path


def _row(api: Any, index: int, epochs: tuple[int, ...]) -> dict[str, Any]:
    arch = str(api.arch(index))
    row: dict[str, Any] = {"arch": arch, "ops": codes(from_nas_bench_201(arch), OP_NAMES).astype(np.int8)}
    for long in epochs:
        for (dataset, part), (source, key) in SOURCES.items():
            several = [_accuracy(api, index, source, key, long, seed) for seed in SEEDS]
            row[f"{dataset}_{part}_{long}_seeds"] = several
            row[f"{dataset}_{part}_{long}"] = np.nanmean(several)
        for dataset, source in TRAINED.items():
            info = api.get_more_info(index, source, hp=str(long), is_random=False)
            row[f"{dataset}_train_seconds_{long}"] = float(info["train-all-time"])
            row[f"{dataset}_valid_seconds"] = float(info["valid-per-time"])
    for dataset, source in TRAINED.items():
        cost = api.get_cost_info(index, source)
        row |= {f"{dataset}_params_m": float(cost["params"]), f"flops_m_{dataset}": float(cost["flops"])}
    return row


def _accuracy(api: Any, index: int, dataset: str, key: str, epochs: int, seed: int) -> float:
    """In percent; NaN where this seed was not trained, which the API tells by an exception of no fixed type."""
    try:
        return float(api.get_more_info(index, dataset, hp=str(epochs), is_random=seed)[key])
    except Exception:
        return float("nan")
