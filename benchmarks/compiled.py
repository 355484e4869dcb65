"""One program, compiled in this process, and what the compiler wrote: `python -m benchmarks.compiled JSON`.

Run in a process of its own, since a compiler may end the process; `compilers.py` starts it and reads its last line.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import jax

from benchmarks import hlo
from benchmarks.launches import count
from benchmarks.programs import Program, write
from benchmarks.targets import TARGETS


def report(target: str, program: Program, options: dict[str, str], text: str | None = None) -> dict[str, Any]:
    """Lowers and compiles a program, and counts what one run of it does.

    Args:
      target: a name of `targets.TARGETS`.
      program: what to compile.
      options: of the compiler, beside its defaults.
      text: file that gets the compiled text; none unless given.

    Returns:
      {name: number}: launches and their kinds, transposes and copies of whole activations, collectives with bytes,
      estimated cycles, bytes of temporaries, arguments and outputs on one device, floating-point operations where the
      compiler tells them (the body of a loop counted once), lines of StableHLO, seconds to lower and to compile.
    """
    devices = TARGETS[target].devices(program.devices)
    began = time.perf_counter()
    written = write(program, devices)
    lowered_seconds = time.perf_counter() - began
    lines = written.lowered.as_text().count("\n")
    began = time.perf_counter()
    compiled = written.lowered.compile(compiler_options=typed(options) or None)
    compile_seconds = time.perf_counter() - began
    found = compiled.as_text()
    if text:
        Path(text).write_text(found, encoding="utf-8")
    run, costs = count(hlo.read(found), written.activation), compiled.cost_analysis() or {}
    return {
        **{**run._asdict(), "launches": run.total},
        "collectives": {kind: sent._asdict() for kind, sent in run.collectives.items()},
        "activation_bytes": written.activation,
        **bytes_of(compiled),
        "flops": costs.get("flops"),
        "stablehlo_lines": lines,
        "lower_seconds": lowered_seconds,
        "compile_seconds": compile_seconds,
        "versions": {"jax": jax.__version__, "jaxlib": jax.lib.__version__},
    }


def bytes_of(compiled: Any) -> dict[str, int | None]:
    """Bytes on one device, as the compiler plans them."""
    names = {"temporary": "temp", "argument": "argument", "output": "output", "donated": "alias"}
    analysis = compiled.memory_analysis()
    return {f"{ours}_bytes": getattr(analysis, f"{xla}_size_in_bytes", None) for ours, xla in names.items()}


def typed(options: dict[str, str]) -> dict[str, Any]:
    """Options as XLA takes them: "true" and "false" are booleans, all else is text."""
    return {name: {"true": True, "false": False}.get(value.lower(), value) for name, value in options.items()}


def main() -> None:
    """Reads {"target", "program", "options", "text"} and prints the report, or {"failed": why}, as the last line."""
    asked = json.loads(sys.argv[1])
    try:
        found = report(asked["target"], Program(**asked["program"]), asked["options"], asked.get("text"))
    except Exception as error:  # whatever the compiler raises is a row of the table
        found = {"failed": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
