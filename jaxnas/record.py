"""What is written about a run besides its state: measures of an epoch, the space, versions, devices, memory.

Where in the river: around it. Knows how to tell; no loop, no clock.
"""

import json
import platform
import resource
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from jaxnas import folder, reports
from jaxnas.continuing import SET
from jaxnas.data import Split
from jaxnas.evaluation.decision import Decision, decision, level
from jaxnas.evaluation.diagnostics import Watch
from jaxnas.evaluation.stopping import Rule, warnings
from jaxnas.folder import Record
from jaxnas.precision import Precision
from jaxnas.settings import in_full
from jaxnas.spaces.genotype import Genotype, to_json
from jaxnas.spaces.space import CellGates, Space
from jaxnas.stages import Stage
from jaxnas.strategies.penalty import mean_entropy


def measures(means: Mapping[str, Mapping[str, float]], scores: CellGates, genotype: Genotype) -> Record:
    """Losses, accuracies and gradient norms of both players, alpha's entropy in nats, and skips in the genotype."""
    flat = {f"{player}_{name}": value for player, found in means.items() for name, value in found.items()}
    entropy = sum(float(mean_entropy(gates)) for gates in scores.values()) / len(scores)
    return {**flat, "alpha_entropy": entropy, "skips": genotype.count("skip_connect")}


def judge(stop: Rule, mine: list[Record], last: bool) -> bool:
    """Whether the stage ends here; what the rule said, and warnings not given before, go into the newest record."""
    verdict = None if last else stop(mine)
    if verdict:
        mine[-1]["stopped"] = verdict._asdict()
    said = {kind for record in mine for kind in record.get("warnings", ())}
    new = {kind: text for kind, text in warnings(mine).items() if kind not in said}
    if new and not verdict:
        mine[-1]["warnings"] = new
    mine[-1]["stage_ended"] = last or verdict is not None
    return mine[-1]["stage_ended"]


def asked_for(
    stages: Sequence[Stage], space: Space, data: Split, batch: int, watch: Watch | None, precision: Precision
) -> dict[str, Any]:
    """What a search was asked for, as plain data; compared when it is resumed."""
    told = {
        **describe(space, stages),
        "batch": batch,
        "split": data.digest,
        "epochs": [stage.epochs for stage in stages],
    }
    told["precision"] = precision._asdict()
    if any(stage.settings for stage in stages):
        told["stages"] = [dict(stage.settings) for stage in stages]
    return told | ({"measured_every": watch.every} if watch else {})


def describe(space: Space, stages: Sequence[Stage]) -> dict[str, Any]:
    """A space, and all numbers of a search by name, as plain data for the record of a run."""
    masks = {cell: space.mask(cell).astype(int).tolist() for cell in space.cells} if space.alive else None
    skeleton = [f"{layer.cell} {layer.channels}" + " /2" * (layer.stride > 1) for layer in space.skeleton]
    told = {"name": space.name, "ops": list(space.op_names), "skeleton": skeleton, "image": list(space.image)}
    return {"space": {**told, "classes": space.classes, "alive": masks}, SET: in_full(stages)}


def environment(used: int = 1, placement: str = "one") -> dict[str, Any]:
    """Versions and devices that a result was made with: how many were used, and how the search lay on them."""
    packages = ("jaxnas", "jax", "jaxlib", "flax", "optax", "numpy")
    devices = jax.devices()
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "devices": {
            "kind": devices[0].device_kind,
            "platform": devices[0].platform,
            "used": used,
            "placement": placement,
            "processes": jax.process_count(),
            "present": len(devices),
        },
        "machine": {"system": platform.platform(), "processor": platform.machine()},
    }


def peak_memory() -> int:
    """Largest memory so far, bytes: of the device where it tells, else of this process."""
    stats = jax.devices()[0].memory_stats() or {}
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return int(stats.get("peak_bytes_in_use", resident))


def decided_in(out: Path, space: Space) -> Decision:
    """How decided alpha was after the epoch that is the answer."""
    epoch = folder.answer(folder.read_records(out))["epoch"]
    scores = {cell: table[epoch - 1] for cell, table in folder.read_scores(out).items()}
    return decision(scores, {cell: space.mask(cell) for cell in scores})


def record_answer(
    out: Path, space: Space, records: Sequence[Record], genotype: Genotype, told: Mapping[str, Any], program: Any
) -> list[Path]:
    """Writes the answer of a search, its result, its pictures and page (returned); no program, no new result."""
    folder.write(out / "genotype.json", to_json(genotype) + "\n")
    alive = {cell: space.mask(cell) for cell in space.cells}
    alike = {record["stage"] for record in records} == {0}  # other stages have other operations
    pictures = folder.draw(out, space, records, genotype, level(alive) if alike else None)
    memory = {**(program.memory_bytes if program else {}), "peak": peak_memory()}
    summary = {**told, "genotype": json.loads(to_json(genotype)), "last": records[-1]}
    summary |= {"answer": folder.answer(records), "memory_bytes": memory}
    summary["decided"] = decided_in(out, space)._asdict()
    if program or not (out / "result.json").exists():
        folder.write(out / "result.json", json.dumps(summary, indent=2) + "\n")
    return [*pictures, reports.leave(out, space)]
