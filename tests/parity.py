"""Compares jaxnas with numbers that the official PyTorch codes produced: `tests/parity.py [--accelerator] FILE...`.

What a file holds is told by its content. One line per quantity (name, largest error, tolerance, ok); exit status 1
if any misses, 2 if a file cannot be compared. Everything in float64. Errors are relative to the largest reference
value of the quantity. With `--accelerator` everything is computed on CPU as it is on GPU and TPU: in their forms of
the operations, and with their layout of the supernet.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path

import jax
from parity_architect import architect_file
from parity_draws import conventions_file
from parity_evaluation import network_file
from parity_lines import Line, Tensors, load
from parity_networks import supernet_file
from parity_operations import operations_file
from parity_progressive import chains_file, stage_network_file
from parity_schedules import schedules_file
from parity_snas import snas_decoding_file, snas_file
from parity_tables import autodl_decoding_file, counts_file, darts_decoding_file, recurrent_decoding_file

from jaxnas.spaces.bilinear import in_accelerator_forms


def compare(path: Path) -> Iterator[Line]:
    """The comparison that fits a file's content."""
    data = load(path)
    if path.suffix == ".json":
        kinds = {
            "search_networks": counts_file,
            "cosine_lr": schedules_file,
            "num_to_drop": chains_file,
            "normal_log_alpha": snas_decoding_file,
            "recurrent": recurrent_decoding_file,
            "primitives": darts_decoding_file,
            "edge_order": autodl_decoding_file,
        }
        names = {*data, *next(iter(data.get("cases", ())), ())}
        kind = next((kinds[key] for key in kinds if key in names), None)
    else:
        meta = json.loads(str(data["__meta__"]))
        kind = array_kind(data, meta, path.parent)
    if kind is None:
        raise LookupError(f"{path.name}: no comparison for a file of this content.")
    yield from kind(data)


def array_kind(data: Tensors, meta: Mapping, folder: Path) -> Callable | None:
    source = meta.get("source", "")
    if "auxiliary" in meta and "genotype" in meta:
        return lambda z: network_file(z, meta)
    if "Architect" in source:
        return lambda z: architect_file(z, meta, folder)
    if "pdarts" in source:
        return lambda z: stage_network_file(z, meta)
    if "SNAS" in source:
        return lambda z: snas_file(z, meta)
    if "derived" in meta and "modes" in meta:
        return lambda z: conventions_file(z, meta, folder)
    if "operations.py" in source:
        return lambda z: operations_file(z, meta)
    if any(name in source for name in ("quark0/darts", "TinyNetworkDarts", "PC-DARTS", "GDAS")):
        return lambda z: supernet_file(z, meta)
    return None


def main(paths: list[str]) -> int:
    """Prints every line; the exit status."""
    status = 0
    for path in map(Path, paths):
        print(path.name)
        try:
            for line in compare(path):
                verdict = "ok  " if line.ok else "MISS"
                print(f"  {verdict}  {line.error:9.2e}  <= {line.tolerance:7.1e}  {line.name}", flush=True)
                status = max(status, 0 if line.ok else 1)
        except (LookupError, FileNotFoundError) as error:
            print(f"  cannot compare: {error}")
            status = 2
    return status


if __name__ == "__main__":
    paths = [argument for argument in sys.argv[1:] if argument != "--accelerator"]
    if not paths:
        sys.exit(__doc__)
    jax.config.update("jax_enable_x64", True)
    with in_accelerator_forms() if len(paths) < len(sys.argv) - 1 else nullcontext():
        sys.exit(main(paths))
