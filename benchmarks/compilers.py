"""Compiles programs, one process each: whatever becomes of the compiler is a row, and the caller goes on.

A compiler that aborts takes its process with it, and nothing can catch that inside. Here the process that dies by a
signal, the one that runs out of time and the one that raises each leave a row with the last thing that they said.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.programs import Program
from benchmarks.targets import TARGETS

ROOT = Path(__file__).parent.parent
CHECK = re.compile(r"Check failed: .*|Assertion .* failed.*|LLVM ERROR: .*")
FRAME = re.compile(r"^\s*(@ |\*\*\* |#\d|-+$|Fatal Python error|Current thread|Thread 0x|Extension modules|File \")")


class Job(NamedTuple):
    """One program for one target."""

    target: str
    program: Program
    options: Mapping[str, str]  # of the compiler
    text: str = ""  # file that gets the compiled text
    reports: str = ""  # folder of reports that need not be made again


class Row(NamedTuple):
    """What became of a job."""

    job: Job
    outcome: str  # "compiled", "failed", "timed out", or "aborted" and the signal
    last_line: str  # of what was said, where it did not compile
    seconds: float  # of the process
    report: Mapping[str, Any]  # {} where it did not compile


def run(jobs: Sequence[Job], *, at_once: int, timeout: float) -> Iterator[Row]:
    """The rows, in the order in which they are ready.

    Args:
      jobs: what to compile.
      at_once: processes side by side.
      timeout: seconds after which a process is ended.
    """
    with ThreadPoolExecutor(at_once) as pool:
        begun = [pool.submit(compile_apart, job, timeout) for job in jobs]
        yield from (done.result() for done in as_completed(begun))


def compile_apart(job: Job, timeout: float) -> Row:
    """One row, from a process of its own.

    Args:
      job: what to compile.
      timeout: seconds after which the process is ended.
    """
    asked = {**job._asdict(), "program": job.program._asdict(), "options": dict(job.options)}
    command = [sys.executable, "-m", "benchmarks.compiled", json.dumps(asked)]
    return apart(job, command, environment(job), timeout)


def environment(job: Job) -> dict[str, str]:
    """Variables of the process that compiles a job: nothing is read from or kept in a cache of programs."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    own = {"PYTHONPATH": path, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    return {**os.environ, **own, **TARGETS[job.target].environment(job.program.devices)}


def apart(job: Job, command: Sequence[str], env: Mapping[str, str], timeout: float) -> Row:
    """Runs a command whose last line is a report, and says how it ended.

    Args:
      job: what the command compiles.
      command: what to run.
      env: its variables.
      timeout: seconds after which it and what it started is ended.
    """
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = subprocess.Popen(command, stdout=out, stderr=err, env=dict(env), cwd=ROOT, start_new_session=True)
        try:
            status: int | None = child.wait(timeout)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end(child)
        said = [_all(stream) for stream in (out, err)]
    return row(job, status, said[0], said[1], time.perf_counter() - began)


def row(job: Job, status: int | None, out: str, err: str, seconds: float) -> Row:
    """A row from how a process ended and what it said; no status means that it ran out of time."""
    made = lambda outcome, line, report=None: Row(job, outcome, line, seconds, report or {})
    if status is None:
        return made("timed out", last_line(err) or "nothing was said")
    if status < 0:
        return made(f"aborted ({signal.Signals(-status).name})", last_line(err) or "nothing was said")
    report = _report(out)
    if status or report is None:
        return made("failed", last_line(err) or f"exit status {status}")
    if "failed" in report:
        return made("failed", str(report["failed"]))
    return made("compiled", "", report)


def last_line(text: str) -> str:
    """The line that tells the reason: a failed check where there is one, else the last that is no stack frame."""
    lines = [line for line in text.splitlines() if line.strip() and not FRAME.match(line)]
    checks = [found[0] for line in lines if (found := CHECK.search(line))]
    return (checks or lines or [""])[-1].strip()[:500]


def _report(out: str) -> dict[str, Any] | None:
    try:
        found = json.loads(out.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _end(child: subprocess.Popen) -> None:
    """Ends a process and those that it started, assemblers for one."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _all(stream: Any) -> str:
    stream.seek(0)
    return stream.read()
