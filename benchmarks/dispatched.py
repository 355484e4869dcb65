"""How many operators eager PyTorch dispatches in one search step: `python -m benchmarks.dispatched`.

Eager PyTorch launches at least one kernel for each operator that computes, so that this number stands beside the
launches of a compiled step. Every operator that reaches a device's code in forward, backward and both optimizers is
seen, in one of three kinds, by its schema:

    view        every tensor that it returns shares the memory of an argument that it does not write to: no kernel
    allocation  it returns memory without contents (`empty` and its like): no kernel
    computes    all others, in-place ones too: at least one kernel each

It is a lower bound of kernels: one batch norm, one gradient of a convolution with two results, or one multi-tensor
operator of an optimizer counts once, whatever it launches. The count depends on the network and not on the batch or the
device, so a CPU and two images will do. Needs PyTorch.
"""

import json
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.build import named
from benchmarks.case import CLASSES, PEERS, Case, images
from benchmarks.command import run
from jaxnas.folder import write

KINDS = ("computes", "view", "allocation")
EMPTY = ("empty", "new_empty")  # first words of operators that allocate only


def kind(operator: Any) -> str:
    """ "computes", "view" or "allocation", from an operator's schema.

    Args:
      operator: an overload, `torch.ops.aten.add.Tensor`.
    """
    if operator._schema.name.partition("::")[2].startswith(EMPTY):
        return "allocation"
    returned = [value.alias_info for value in operator._schema.returns]
    shared = [alias is not None and not alias.is_write for alias in returned]
    return "view" if shared and all(shared) else "computes"


def dispatched(call: Callable[[], Any]) -> Counter:
    """Operators that a call dispatches: {(kind, name): number}.

    Args:
      call: what to look at; runs once.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    found: Counter = Counter()

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
            found[kind(operator), str(operator)] += 1
            return operator(*args, **(kwargs or {}))

    with Counting():
        call()
    return found


def step_of(case: Case) -> Counter:
    """Operators of one step of the peer, after a first step that makes the optimizers' states.

    Args:
      case: a strategy that the peer knows; its batch does not change the count.
    """
    import torch

    from benchmarks.peer_network import Supernet
    from benchmarks.peer_torch import Peer

    torch.set_num_threads(1)  # two images are too little work for more
    peer = Peer(Supernet(case.channels, case.depth, CLASSES), PEERS[case.strategy].order)
    batches = [peer.batch(*half) for half in images(case)]
    peer.step(*batches)
    return dispatched(lambda: peer.step(*batches))


def by_kind(found: Counter) -> dict[str, int]:
    """Operators of each kind."""
    return {wanted: sum(number for (kind, _), number in found.items() if kind == wanted) for wanted in KINDS}


def main(
    strategy: Annotated[str, typer.Option(help=f"One of {', '.join(PEERS)}.")] = "darts-first-order",
    channels: int = 16,
    depth: int = 8,
    batch: int = 2,
    image: Annotated[int, typer.Option(help="Side of the images, pixels.")] = 32,
    show: Annotated[int, typer.Option(help="Operators that are listed, most frequent first.")] = 20,
    out: Annotated[Path | None, typer.Option("--json", help="File that gets the result.")] = None,
) -> None:
    """Operators that eager PyTorch dispatches in one search step of DARTS."""
    named(PEERS, strategy, "strategy that the peer knows")
    if find_spec("torch") is None:
        raise RuntimeError("PyTorch is not installed: pip install torch.")
    found, console = step_of(Case("darts", strategy, channels, depth, batch, image)), Console()
    console.print(", ".join(f"{number:,} {kind}" for kind, number in by_kind(found).items()), highlight=False)
    for (kind, name), number in found.most_common(show):
        console.print(f"{number:7,} {name} ({kind})", highlight=False)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        operators = [{"kind": kind, "operator": name, "number": number} for (kind, name), number in found.most_common()]
        settings = {"strategy": strategy, "channels": channels, "depth": depth, "batch": batch, "image": image}
        write(out, json.dumps({"settings": settings, **by_kind(found), "operators": operators}, indent=1) + "\n")


if __name__ == "__main__":
    run(main)
