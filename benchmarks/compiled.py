"""One program, compiled in this process, and what the compiler wrote: `python -m benchmarks.compiled JSON`.

Run in a process of its own, since a compiler may end the process; `compilers.py` starts it and reads its last line.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import jax

from benchmarks import hlo, kept
from benchmarks.launches import count
from benchmarks.programs import Program, title, write
from benchmarks.targets import TARGETS


def report(
    target: str, program: Program, options: dict[str, str], text: str | None = None, reports: str = ""
) -> dict[str, Any]:
    """Lowers and compiles a program, and counts what one run of it does.

    Args:
      target: a name of `targets.TARGETS`.
      program: what to compile.
      options: of the compiler, beside its defaults.
      text: file that gets the compiled text; none unless given.
      reports: folder of reports; what is found there is not compiled again.

    Returns:
      {name: number}: launches and their kinds, transposes and copies of whole activations, collectives with bytes,
      estimated cycles, bytes of temporaries, arguments and outputs on one device, floating-point operations where the
      compiler tells them (the body of a loop counted once), lines of StableHLO, seconds to lower and to compile; and
      "compiled_as", the first program of this text.
    """
    devices = TARGETS[target].devices(program.devices)
    began = time.perf_counter()
    written = write(program, devices)
    lowered_seconds = time.perf_counter() - began
    lowered = written.lowered.as_text()
    versions = {"jax": jax.__version__, "jaxlib": jax.lib.__version__}
    place = kept.place(Path(reports), lowered, target=target, options=options, versions=versions)
    if reports and not text and (before := kept.recall(place)):
        return before
    began = time.perf_counter()
    compiled = written.lowered.compile(compiler_options=typed(options) or None)
    compile_seconds = time.perf_counter() - began
    found = compiled.as_text()
    if text:
        Path(text).write_text(found, encoding="utf-8")
    run, costs = count(hlo.read(found), written.activation), compiled.cost_analysis() or {}
    told = {
        **{**run._asdict(), "launches": run.total},
        "collectives": {kind: sent._asdict() for kind, sent in run.collectives.items()},
        "activation_bytes": written.activation,
        **bytes_of(compiled),
        "flops": costs.get("flops"),
        "stablehlo_lines": lowered.count("\n"),
        "lower_seconds": lowered_seconds,
        "compile_seconds": compile_seconds,
        "versions": versions,
        "compiled_as": title(program),
    }
    if reports:
        kept.keep(place, told)
    return told


def bytes_of(compiled: Any) -> dict[str, int | None]:
    """Bytes on one device, as the compiler plans them."""
    names = {"temporary": "temp", "argument": "argument", "output": "output", "donated": "alias"}
    analysis = compiled.memory_analysis()
    return {f"{ours}_bytes": getattr(analysis, f"{xla}_size_in_bytes", None) for ours, xla in names.items()}


def typed(options: dict[str, str]) -> dict[str, Any]:
    """Options as XLA takes them: "true" and "false" are booleans, all else is text."""
    return {name: {"true": True, "false": False}.get(value.lower(), value) for name, value in options.items()}


def main() -> None:
    """Reads {"target", "program", "options", "text", "reports"}; its last line is the report, or {"failed": why}."""
    asked = json.loads(sys.argv[1])
    try:
        rest = asked["options"], asked.get("text"), asked.get("reports", "")
        found = report(asked["target"], Program(**asked["program"]), *rest)
    except Exception as error:  # whatever the compiler raises is a row of the table
        found = {"failed": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
