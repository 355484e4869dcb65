"""What is measured, in the order of its worth, and what of it fits into the time.

Loads no JAX: the command never touches the device, the processes that it starts do.
"""

import difflib
import importlib.util
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from benchmarks.device.layouts import DEFAULT, DEPTHWISE, LAYOUTS

DONE = ("measured", "failed", "aborted", "timed out")  # an item that ended so is not run again unless asked for


class Item(NamedTuple):
    """One measurement, in a process of its own.

    Attributes:
      name: its group, a hyphen, and which of the group.
      work: the module whose `measure` does it.
      given: what that function gets, as JSON.
      planned: seconds that it is assumed to take; a guess, corrected by the items that are done.
      limit: seconds after which it is ended.
      rows: parts that are told one by one; if the process dies in one, a new process goes on behind it.
      needs: "torch" or "images", where it cannot do without.
    """

    name: str
    work: str
    given: Mapping[str, Any]
    planned: float
    limit: float
    rows: tuple[str, ...] = ()
    needs: str = ""


class Sizes(NamedTuple):
    """How large the programs are, and how long they are timed."""

    space: str
    channels: int
    depth: int
    batch: int
    image: int
    ops: tuple[str, ...]  # candidates; all of the space where none is named
    peer: tuple[
        int, int, int, int
    ]  # channels, depth, batch, image of the peer's step, which knows the DARTS space only
    fixtures: tuple[str, ...]
    seeds: tuple[int, ...]
    round_seconds: float  # that one round of steps should take
    repeats: int  # rounds
    epoch_seconds: float  # after which an epoch is cut short
    scale: float  # of the planned seconds


PROGRAMS = (  # fixtures that compile programs; the others are compared on the host alone
    "B_darts_c4_l3.npz",
    "B_nb201_darts_c4_n1.npz",
    "B_gdas_nasnet_c4_n1_tau1.npz",
    "B_pcdarts_c8_l3.npz",
    "C_architect.npz",
    "X_ops_darts.npz",
    "X_ops_autodl.npz",
    "B_gdas_nb201_c4_n1_tau1.npz",
    "B_gdas_on_darts_c4_l3_DERIVED.npz",
    "B_snas_c4_l3_t1.npz",
    "B_pdarts_c4_l3_ops5.npz",
    "X_evalnet_cifar_darts_v2.npz",
)
FLOAT64_ONLY = ("C_architect.npz",)  # central differences, of which float32 leaves few digits
PAPER = Sizes("darts", 16, 8, 64, 32, (), (16, 8, 64, 32), PROGRAMS, (4, 16), 1.0, 5, 90.0, 1.0)
FEW = ("skip_connect", "nor_conv_3x3")
TINY = Sizes("nas_bench_201", 4, 1, 2, 8, FEW, (4, 3, 2, 8), ("D_nb201.json",), (2,), 0.05, 2, 5.0, 0.1)
STEPS = {"first-order": "darts-first-order", "second-order": "darts", "gdas": "gdas", "pc-darts": "pc-darts"}
STEP_SECONDS = {"first-order": 90, "second-order": 200, "gdas": 100, "pc-darts": 90}  # planned
SEARCH_EPOCHS = 50  # of the paper's search
PATIENCE = 900.0  # seconds for an item of a rehearsal, which may run on a busy machine


def items(sizes: Sizes, images: str | None = None) -> list[Item]:
    """Everything that can be measured, most valuable first.

    Args:
      sizes: `PAPER`, or `TINY` for a rehearsal.
      images: file of JPEG bytes; made up where a rehearsal is given none.
    """
    first = STEPS["first-order"]
    every = [
        *(parity(sizes, precision) for precision in ("float64", "float32")),
        *(step(sizes, f"step-{name}", strategy, STEP_SECONDS[name]) for name, strategy in STEPS.items()),
        *(peer(sizes, f"eager-{name}", STEPS[name], "", 30) for name in ("first-order", "second-order")),
        *(step(sizes, f"layout-{name}", first, 100, layout=name) for name in LAYOUTS if name != DEFAULT),
        *(step(sizes, f"depthwise-{name}", first, 100, depthwise=name) for name in DEPTHWISE if name != DEFAULT),
        *(step(sizes, f"seeds-{n}-{axis}", first, 110, seeds=n, axis=axis) for n in sizes.seeds for axis in AXES),
        *(step(sizes, f"precision-{name}", first, 100, precision=name) for name in ("tf32", "bfloat16")),
        epoch(sizes, first, images),
        peer(sizes, "compiled-first-order", first, "edges", 150),
    ]
    return [item._replace(limit=PATIENCE) for item in every] if sizes is TINY else every


AXES = ("vmapped", "mapped")  # names of functions of `jaxnas.seeds`


def parity(sizes: Sizes, precision: str) -> Item:
    """The official numbers, computed on the device."""
    rows = tuple(name for name in sizes.fixtures if precision == "float64" or name not in FLOAT64_ONLY)
    given = {"precision": precision}
    return Item(f"parity-{precision}", "benchmarks.device.parity", given, 200 * sizes.scale, 400, rows)


def step(sizes: Sizes, name: str, strategy: str, planned: float, precision: str = "float32", **other: Any) -> Item:
    """One search step."""
    case = {"space": sizes.space, "strategy": strategy, "precision": precision}
    case |= {size: getattr(sizes, size) for size in ("channels", "depth", "batch", "image")}
    given = {"case": case, "ops": sizes.ops, "clock": clock_of(sizes), "seeds": 1}
    given |= {"layout": DEFAULT, "depthwise": DEFAULT, **other}
    return Item(name, "benchmarks.device.step", given, planned * sizes.scale, 3 * planned)


def peer(sizes: Sizes, name: str, strategy: str, compiled: str, planned: float) -> Item:
    """The same step in PyTorch."""
    case = {"strategy": strategy, **dict(zip(("channels", "depth", "batch", "image"), sizes.peer, strict=True))}
    given = {"case": case, "clock": clock_of(sizes), "compiled": compiled}
    return Item(name, "benchmarks.device.peer", given, planned * sizes.scale, 3 * planned, needs="torch")


def epoch(sizes: Sizes, strategy: str, images: str | None) -> Item:
    """One epoch of a search on images of the user's file."""
    names = ("space", "channels", "depth", "batch", "ops")
    given = {"strategy": strategy, "images": images, "seconds": sizes.epoch_seconds, "epochs": SEARCH_EPOCHS}
    given |= {size: getattr(sizes, size) for size in names}
    return Item(
        "epoch-cifar10",
        "benchmarks.device.epoch",
        given,
        160 * sizes.scale,
        400,
        needs="" if sizes is TINY else "images",
    )


def clock_of(sizes: Sizes) -> dict[str, float]:
    """How steps are timed."""
    return {"round_seconds": sizes.round_seconds, "repeats": sizes.repeats}


def chosen(all_items: Sequence[Item], wanted: str) -> list[Item]:
    """The items of a list of names, or of groups of names, with commas between; in their own order.

    Raises:
      ValueError: for a name that none has; says which are near.
    """
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    known = [*dict.fromkeys(group(item.name) for item in all_items), *(item.name for item in all_items)]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3) or known
            raise ValueError(f"no item is called {name!r}; choose {' or '.join(near)} (--list tells all).")
    return [item for item in all_items if {item.name, group(item.name)} & set(names)]


def group(name: str) -> str:
    """What comes before the first hyphen."""
    return name.partition("-")[0]


def reason_against(item: Item, images: str | None) -> str | None:
    """Why an item cannot be measured here; None where it can."""
    if item.needs == "torch" and importlib.util.find_spec("torch") is None:
        return "PyTorch is not installed"
    if item.needs == "images" and not images:
        return "no images: pack them by `python -m benchmarks.pack_images`, and give the file as --images"
    return None


def left_to_do(all_items: Iterable[Item], found: Mapping[str, Any], again: Collection[str]) -> list[Item]:
    """Items without a result, and those that are asked for again."""
    done = lambda item: found.get(item.name, {}).get("status") in DONE
    return [item for item in all_items if item.name in again or not done(item)]


def pace(all_items: Iterable[Item], found: Mapping[str, Any]) -> float:
    """How much longer items take here than planned: the median of those that were measured, 1 where none was."""
    planned = {item.name: item.planned for item in all_items}
    ratios = [told["seconds"] / planned[name] for name, told in found.items() if planned.get(name) and is_whole(told)]
    return min(4.0, max(0.25, median(ratios))) if ratios else 1.0


def is_whole(told: Mapping[str, Any]) -> bool:
    """Whether an item ran to its end."""
    return told.get("status") == "measured"


def fits(item: Item, left: float, pace: float) -> bool:
    """Whether an item that is started now ends in the seconds that are left, as far as one can tell."""
    return item.planned * pace <= left
