"""`python -m benchmarks`: a search step of ours, what the machine can do, and the same step in PyTorch.

    python -m benchmarks                                            # ours alone, first-order DARTS of the paper's size
    python -m benchmarks --peer --starts                            # and PyTorch's, in turn; and how soon it starts
    python -m benchmarks --space nas_bench_201 --depth 5            # any space and strategy of the command line

Writes result.json and result.png into --out.
"""

import json
import os
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # two frameworks share one accelerator

import jax
import typer
from rich.console import Console

from benchmarks import show
from benchmarks.build import PRECISIONS, Built, build
from benchmarks.case import Case
from benchmarks.command import run
from benchmarks.machine import machine
from benchmarks.measure import (
    compile_step,
    first_state,
    measure,
    measure_seeds,
    record,
    stepper,
    summary,
    work,
    working_bytes,
)
from benchmarks.peers import PEERS, Wish, alone, compare, reason_against
from benchmarks.starts import starts as both_starts
from jaxnas import drawing
from jaxnas.folder import write
from jaxnas.names import SPACES, STRATEGIES
from jaxnas.record import environment

_PRECISION = f"Of products, ours and PyTorch's: {', '.join(PRECISIONS)}."
_COMPILED = "What torch.compile gets: edges (equal edges share a program), network (slow to compile), or none."


def main(
    space: Annotated[str, typer.Option(help=f"What may be built: {', '.join(SPACES)}.")] = "darts",
    strategy: Annotated[str, typer.Option(help=f"How to search: {', '.join(STRATEGIES)}.")] = "darts-first-order",
    channels: Annotated[int, typer.Option(help="Width of the first cells.")] = 16,
    depth: Annotated[int, typer.Option(help="Cells, or cells for each stage (nas_bench_201).")] = 8,
    batch: Annotated[int, typer.Option(min=1, help="Images for the weights, and again for alpha.")] = 16,
    image: Annotated[int, typer.Option(help="Side of the images, pixels.")] = 32,
    precision: Annotated[str, typer.Option(help=_PRECISION)] = "float32",
    steps: Annotated[int, typer.Option(min=1, help="Steps that are timed, of each.")] = 10,
    peer: Annotated[bool, typer.Option(help="Compare with PyTorch, in turn in one process.")] = False,
    peer_compiled: Annotated[str, typer.Option(help=_COMPILED)] = "edges",
    peer_mode: Annotated[str, typer.Option(help="Mode of torch.compile.")] = "default",
    peer_layout: Annotated[str, typer.Option(help="contiguous, channels_last, or the faster of both.")] = "faster",
    starts: Annotated[bool, typer.Option(help="Measure a first and a second start, each in a process.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Searches side by side in one program, measured besides.")] = 1,
    seed: Annotated[int, typer.Option(help="Of weights, alpha and images.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for result.json and result.png.")] = Path("runs/benchmark"),
) -> None:
    """Measure one search step: seconds, bytes, lines, and how they compare."""
    case = Case(space, strategy, channels, depth, batch, image, precision, seed)
    compiled = "" if peer_compiled == "none" else one_of(peer_compiled, ("edges", "network"), "--peer-compiled")
    layout = one_of(peer_layout, ("faster", "contiguous", "channels_last"), "--peer-layout")
    built, console = build(case), Console()
    out.mkdir(parents=True, exist_ok=True)  # refused before minutes are spent
    result = measured(case, built, steps, Wish(compiled, peer_mode, layout) if peer else None, starts, seeds)
    save(result, out)
    console.print(show.table(result))
    for name, told in result["peers"].items():
        if "skipped" in told:
            console.print(f"no {show.NAMES.get(name, name)}: {told['skipped']}", highlight=False, soft_wrap=True)
    console.print(f"written: {out / 'result.json'}, {out / 'result.png'}", soft_wrap=True)


def one_of(value: str, choices: tuple[str, ...], option: str) -> str:
    """A value that is one of those possible."""
    if value not in choices:
        raise ValueError(f"{option} is {value!r}; choose one of {', '.join(choices)}.")
    return value


def measured(case: Case, built: Built, steps: int, wish: Wish | None, starts: bool, seeds: int) -> dict[str, Any]:
    """Everything about a case, for JSON; peers only where there is a wish."""
    jax.config.update("jax_enable_compilation_cache", False)  # seconds of compilation are measured
    key = jax.random.key(case.seed)
    reason = reason_against(case)
    if wish and not reason:
        ours, peers = beside_peers(case, built, wish, steps)
    else:
        ours = measure(built.search, built.batches, steps, key, case.batch)
        peers = {"torch": {"skipped": reason}} if wish else {}
    passes = PEERS[case.strategy].passes if case.strategy in PEERS else None
    return {
        "settings": {**case._asdict(), "steps": steps},
        **environment(),
        "cores": os.cpu_count(),
        "torch": torch_version(),
        "machine": machine()._asdict(),
        "work": work(built.space, case.batch, passes),
        "ours": ours,
        "peers": peers,
        "seeds": measure_seeds(built.search, built.batches, steps, key, seeds) if seeds > 1 else None,
        "starts": both_starts(case) if starts else {},
    }


def beside_peers(case: Case, built: Built, wish: Wish, steps: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Our record and those of the peers, whose memory is measured in processes of their own."""
    key = jax.random.key(case.seed)
    compiled = compile_step(built.search, built.batches, key)
    state = first_state(built.search, key)
    step = stepper(compiled.run, state, built.batches)
    seconds, peers = compare(case, built, state, step, wish, steps)
    ours = {**record(compiled), "working_bytes": working_bytes(step), **summary(seconds, case.batch)._asdict()}
    ran = {name: peer for name, peer in peers.items() if "skipped" not in peer}
    return ours, {**peers, **{name: {**peer, "alone": alone(case, peer["options"])} for name, peer in ran.items()}}


def torch_version() -> str | None:
    """Of the peer's framework, where it is installed."""
    try:
        return version("torch")
    except PackageNotFoundError:
        return None


def save(result: dict[str, Any], out: Path) -> None:
    """The record and its picture, in a folder that is there."""
    write(out / "result.json", json.dumps(result, indent=1) + "\n")
    drawing.save(show.picture(result), out / "result.png")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="jaxnas-inductor-") as cache:  # programs of the peer are compiled anew
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", cache)
        run(main)
