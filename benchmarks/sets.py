"""Sets of programs: the few that are compiled every time, those with budgets, and the whole matrix."""

from collections.abc import Callable, Mapping

from benchmarks.programs import Program
from jaxnas.names import STAGES, STRATEGIES

FIRST, SECOND = "darts-first-order", "darts"
MATRIX_SPACES = ("darts", "s2", "nas_bench_201", "nasnet")
DEPTHS = {"nas_bench_201": 1, "nasnet": 1}  # layers of a stage; cells elsewhere
BATCHES = (64, 256)  # besides the 16 of the rows
DIVISIBLE = {"dr-nas": 12}  # channels of rows that mix a sixth of them and then a quarter


def small() -> list[Program]:
    """What is worth compiling every time: each family of programs at the smallest size that has all of its parts.

    All operations of DARTS once; what else changes a program in a space of two of them, which compiles in a third of
    the time.
    """
    whole = Program(depth=3, batch=16)
    tiny = whole._replace(space="s2")
    return [
        whole,
        tiny._replace(strategy=SECOND),
        tiny._replace(strategy="gdas"),
        tiny._replace(strategy="pc-darts"),
        whole._replace(space="nas_bench_201", depth=1),
        Program(genotype="DARTS_V2", channels=16, depth=5, batch=16),
        tiny._replace(devices=8, placement="mesh-local"),
    ]


def budget() -> list[Program]:
    """Programs of the size that papers search with, whose launches have budgets."""
    rows = [Program(strategy=name) for name in (FIRST, SECOND, "gdas", "pc-darts")]
    return [*rows, Program(space="nas_bench_201", depth=5)]


def matrix() -> list[Program]:
    """Every row in every kind of space; stages, seeds, batches, several devices, retraining."""
    return [*_rows(), *_stages(), *_seeds(), *_batches(), *_devices(), *_retraining()]


def _rows() -> list[Program]:
    return [_small(name, space) for space in MATRIX_SPACES for name in STRATEGIES]


def _small(name: str, space: str) -> Program:
    return Program(name, space, channels=DIVISIBLE.get(name, 16), depth=DEPTHS.get(space, 3), batch=16)


def _stages() -> list[Program]:
    stages = [(name, stage + 1) for name, told in STAGES.items() for stage in range(len(told.growth))]
    return [_small(name, space)._replace(stage=stage) for space in ("darts", "nas_bench_201") for name, stage in stages]


def _seeds() -> list[Program]:
    spaces = ("darts", "nas_bench_201")
    return [_small(FIRST, space)._replace(seeds=4, axis=axis) for space in spaces for axis in ("mapped", "vmapped")]


def _batches() -> list[Program]:
    rows = (FIRST, SECOND, "gdas", "pc-darts")
    return [Program(name, depth=3, batch=batch) for name in rows for batch in BATCHES]


def _devices() -> list[Program]:
    ways, spaces = ("mesh", "mesh-local", "pmap"), ("darts", "nas_bench_201")
    return [_small(FIRST, space)._replace(devices=8, placement=way) for space in spaces for way in ways]


def _retraining() -> list[Program]:
    """DARTS_V2 as papers train it, and with eight cells at other batches."""
    cifar = Program(genotype="DARTS_V2", recipe="cifar", channels=36, depth=20, batch=96)
    large = Program(genotype="DARTS_V2", recipe="imagenet", channels=48, depth=14, batch=128, side=224)
    return [cifar, *(cifar._replace(depth=8, batch=batch) for batch in (16, *BATCHES)), large]


SETS: Mapping[str, Callable[[], list[Program]]] = {"small": small, "budget": budget, "matrix": matrix}
