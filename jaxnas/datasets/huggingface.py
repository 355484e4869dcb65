"""Sets of Hugging Face `datasets` on disk, as `save_to_disk` writes them or as parquet files from the hub.

Where in the river: above the spring, `data` calls it. Knows tables of pyarrow; no pixels, no jax, no split.

    photos/dataset_dict.json, photos/train/*.arrow, ...    DatasetDict.save_to_disk
    photos/state.json, photos/*.arrow                      Dataset.save_to_disk
    photos/data/train-00000-of-00002.parquet, ...          from the hub; a file's split is the first word of its name

Each row has a picture, {bytes, path}, and a label. Parts are those of `folders`: test or, without it, validation is
held out, and with both validation joins train; a part whose labels are all -1 has none, and is left out.
"""

import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnas.datasets.pictures import Form, Found, Tell, decoded, form, silent
from jaxnas.datasets.stored import Stored

DICT, STATE = "dataset_dict.json", "state.json"  # what save_to_disk leaves
SPLITS = {"train": "train", "training": "train", "validation": "valid", "valid": "valid", "val": "valid"}
SPLITS |= {"dev": "valid", "test": "test", "testing": "test"}

Part = tuple[Any, np.ndarray]  # `Stored` uint8 [N, H, W, C], int32 [N]


class Columns(NamedTuple):
    """What the columns of a table are called."""

    image: str
    label: str
    classes: tuple[str, ...]  # names; empty where nobody tells


class Table(NamedTuple):
    """A file of rows."""

    path: Path
    blocks: tuple[int, ...]  # rows of each block that is read at once


def is_one(folder: Path) -> bool:
    """Whether a folder is such a set.

    Args:
      folder: any.
    """
    marks = (DICT, STATE, "*.parquet", "*/*.parquet")
    return any(next(folder.glob(mark), None) is not None for mark in marks)


def opened(folder: Path, tell: Tell = silent) -> tuple[tuple[Part, ...], tuple[str, ...]]:
    """The parts of a set, training and then held-out if it has one, and the names of the classes.

    Args:
      folder: of the set.
      tell: called while the heads of the pictures are read.

    Raises:
      ImportError: without pyarrow; says what to do.
      FileNotFoundError: where there is no part to train on.
      ValueError: for tables without one column of pictures and one of labels, or a picture that is none.

    Source: https://huggingface.co/docs/datasets/package_reference/main_classes, `save_to_disk`.
    """
    _arrow()
    found = {name: tables for name, tables in _splits(folder).items() if sum(sum(table.blocks) for table in tables)}
    if "train" not in found:
        told = ", ".join(found) or "nothing"
        raise FileNotFoundError(f"{folder} has {told}; a search needs a split that is called train.")
    columns = _columns(folder, [table.path for tables in found.values() for table in tables])
    labels = {name: _labels(tables, columns) for name, tables in found.items()}
    known = [name for name in ("train", "valid", "test") if name in found and (labels[name] >= 0).any()]
    joined = [name for name in known if name == "train" or (name == "valid" and "test" in known)]
    parts = [part for part in (joined, [name for name in known if name not in joined]) if part]
    each = [[table for name in part for table in found[name]] for part in parts]
    every = [table for tables in each for table in tables]
    total = sum(sum(table.blocks) for table in every)
    to = form(_pictures(every, columns, np.arange(total)), total, tell)
    stored = [_stored(folder, tables, columns, to) for tables in each]
    of = [np.concatenate([labels[name] for name in part]) for part in parts]
    return tuple(zip(stored, of, strict=True)), columns.classes


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        told = "sets of Hugging Face are read by pyarrow: pip install 'jaxnas[huggingface]', or give images in folders."
        raise ImportError(told) from error
    return pyarrow


def _splits(folder: Path) -> dict[str, list[Table]]:
    """The files of each part."""
    if (folder / STATE).exists():
        return {"train": _saved(folder)}
    if (folder / DICT).exists():
        names = json.loads((folder / DICT).read_text(encoding="utf-8"))["splits"]
        return {SPLITS[name.lower()]: _saved(folder / name) for name in names if name.lower() in SPLITS}
    found: dict[str, list[Table]] = {"train": [], "valid": [], "test": []}
    for path in sorted([*folder.glob("*.parquet"), *folder.glob("*/*.parquet")]):
        words = [re.split(r"[-_.]", part.lower())[0] for part in reversed(path.relative_to(folder).parts)]
        found[next((SPLITS[word] for word in words if word in SPLITS), "train")].append(_table(path))
    return found


def _saved(folder: Path) -> list[Table]:
    """The files that `Dataset.save_to_disk` lists in its state."""
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        names = [one["filename"] for one in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / STATE} cannot be read ({error}): save the set again by save_to_disk.") from error
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise ValueError(f"{folder} is a choice of rows of another set: save set.flatten_indices() instead.")
    return [_table(folder / name) for name in names]


def _table(path: Path) -> Table:
    """A file with the numbers of rows of its blocks."""
    pa = _arrow()
    try:
        if path.suffix == ".parquet":
            meta = pa.parquet.read_metadata(path)
            return Table(path, tuple(meta.row_group(i).num_rows for i in range(meta.num_row_groups)))
        return Table(path, tuple(len(batch) for batch in _batches(path)))
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path} cannot be read ({error}): fetch or save it again.") from error


@cache
def _batches(path: Path) -> tuple[Any, ...]:
    """The blocks of an arrow file, mapped into memory: nothing is read before it is looked at."""
    pa = _arrow()
    return tuple(pa.ipc.open_stream(pa.memory_map(str(path))))


def _schema(path: Path) -> Any:
    pa = _arrow()
    if path.suffix == ".parquet":
        return pa.parquet.read_schema(path)
    return pa.ipc.open_stream(pa.memory_map(str(path))).schema


def _columns(folder: Path, paths: Sequence[Path]) -> Columns:
    """The columns of pictures and labels, the same in all files."""
    found = {_columns_of(_schema(path), path) for path in paths}
    if len(found) > 1:
        told = " and ".join(sorted(f"{one.image}, {one.label}" for one in found))
        raise ValueError(f"{folder} holds tables of several kinds ({told}): name the folder of one of them.")
    return found.pop()


def _columns_of(schema: Any, path: Path) -> Columns:
    told = (json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info") or {}).get("features") or {}
    kinds = {name: told.get(name, {}) for name in schema.names}
    kind = lambda name: kinds[name].get("_type") if isinstance(kinds[name], dict) else None
    stored = {name: str(schema.field(name).type) for name in schema.names}
    images = [name for name in stored if kind(name) == "Image"]
    images = images or [name for name, text in stored.items() if re.match("struct<.*bytes: (large_)?binary", text)]
    labels = [name for name in stored if kind(name) == "ClassLabel"]
    labels = labels or [name for name, text in stored.items() if name == "label" and "int" in text]
    image, label = (_chosen(path, *one) for one in ((images, "image", "pictures"), (labels, "label", "labels")))
    return Columns(image, label, tuple(kinds[label].get("names") or ()))


def _chosen(path: Path, names: Sequence[str], usual: str, what: str) -> str:
    """The only column of a kind, or that with the usual name."""
    if len(names) == 1 or usual in names:
        return usual if usual in names else names[0]
    told = f"columns of {what}: {', '.join(names)}" if names else f"no column of {what}"
    raise ValueError(f"{path} has {told}; one is needed: leave one by set.select_columns, or call it {usual!r}.")


def _labels(tables: Sequence[Table], columns: Columns) -> np.ndarray:
    """Labels in order, int32 [N]; -1 where there is none."""
    pa = _arrow()
    found = []
    for table in tables:
        if table.path.suffix == ".parquet":
            chunks = pa.parquet.read_table(table.path, columns=[columns.label]).column(0).chunks
        else:
            chunks = [batch.column(columns.label) for batch in _batches(table.path)]
        found += [chunk.fill_null(-1).to_numpy(zero_copy_only=False) for chunk in chunks]
    return np.concatenate(found).astype(np.int32)


def _stored(folder: Path, tables: Sequence[Table], columns: Columns, to: Form) -> Stored:
    read = lambda rows: decoded(_pictures(tables, columns, rows), len(rows), to)
    rows = np.arange(sum(sum(table.blocks) for table in tables))
    compressed = any(table.path.suffix == ".parquet" for table in tables)
    why = f"the images of {folder} do not fit into memory, and parquet files cannot be read in a random order: "
    why += f"datasets.load_dataset({str(folder)!r}).save_to_disk('saved') in Python, then --dataset saved/."
    return Stored(read, rows, to.shape, np.dtype(np.uint8), in_order=why if compressed else "")


def _pictures(tables: Sequence[Table], columns: Columns, rows: np.ndarray) -> Iterator[Found]:
    """The pictures of these rows, block after block, each with its place among the rows."""
    sizes = [size for table in tables for size in table.blocks]
    blocks = [(table, number) for table in tables for number in range(len(table.blocks))]
    ends = np.cumsum(sizes)
    order = np.argsort(rows, kind="stable")
    block = np.searchsorted(ends, rows[order], side="right")
    for number in np.unique(block):
        table, inside = blocks[number]
        column, first = _column(table.path, inside, columns.image), int(ends[number] - sizes[number])
        for at in order[block == number]:
            yield _found(int(at), int(rows[at]) - first, column, table.path)


def _column(path: Path, block: int, name: str) -> Any:
    if path.suffix == ".parquet":
        return _arrow().parquet.ParquetFile(path).read_row_group(block, columns=[name]).column(0)
    return _batches(path)[block].column(name)


def _found(at: int, row: int, column: Any, path: Path) -> Found:
    picture = column[row].as_py() or {}
    content = picture.get("bytes") if isinstance(picture, dict) else picture
    place = picture.get("path") if isinstance(picture, dict) else None
    if content is None and place is None:
        raise ValueError(f"{path}, row {row}, has no picture: leave it out by set.filter, and save the set again.")
    name = f"{path}, row {row}" + (f" ({place})" if place else "")
    return Found(at, name, str(path.parent / str(place)) if content is None else content)
