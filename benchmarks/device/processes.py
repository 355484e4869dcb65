"""Processes that measure: started, paused while another one is timed, ended, and heard when they die.

Each gets a connection for messages, a file for whatever it prints, and a process group of its own, so that what it
starts ends with it. A group that is paused and loses the command that started it is ended by the system.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import IO, Any, NamedTuple

from benchmarks.device.plan import Item
from benchmarks.device.speaker import Span

ROOT = Path(__file__).parent.parent.parent
LINES, LETTERS = 15, 2000  # of what a process said last


class Child(NamedTuple):
    """A process that measures an item."""

    item: Item
    process: subprocess.Popen
    connection: Connection
    log: IO[bytes]
    began: float
    beside: int  # others that ran when it began
    pauses: tuple[Span, ...] = ()
    since: float | None = None  # when the pause began that lasts
    asks: bool = False  # for its turn
    alone: bool = False  # has its turn
    row: str | None = None  # that it began and did not end
    error: str | None = None  # an exception in Python
    ended: bool = False  # it said that everything is measured


def environment(rehearsal: Path | None) -> dict[str, str]:
    """Variables of the processes: programs are compiled anew, and nobody takes all memory of the device.

    Args:
      rehearsal: folder for compiled programs of a rehearsal, which measures no compilation; None where it is none.
    """
    env = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    if rehearsal:  # compiled fast, not to fast code
        env["JAX_PLATFORMS"] = "cpu"
        env["XLA_FLAGS"] = f"{env.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()
        env |= {"JAX_ENABLE_COMPILATION_CACHE": "true", "JAX_COMPILATION_CACHE_DIR": str(rehearsal.resolve())}
        env["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
    return env


def start(item: Item, rows: Sequence[str], rehearsal: Path | None, beside: int) -> Child:
    """A process that begins to measure an item, or some rows of it."""
    ours, theirs = Pipe()
    log = tempfile.TemporaryFile()  # noqa: SIM115
    command = [sys.executable, "-m", "benchmarks.device.child", str(theirs.fileno())]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(rehearsal),
        pass_fds=(theirs.fileno(),),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        process_group=0,
    )
    theirs.close()
    child = Child(item, process, ours, log, time.monotonic(), beside)
    answer(child, json.dumps({"work": item.work, "given": item.given, "rows": list(rows)}))
    return child


def answer(child: Child, text: str) -> None:
    """Sends a message; a process that is gone is noticed where it is heard."""
    with contextlib.suppress(OSError):
        child.connection.send_bytes(text.encode())


def message(child: Child) -> dict[str, Any] | None:
    """Its next message, None where it is gone; waits for one."""
    try:
        return json.loads(child.connection.recv_bytes())
    except (EOFError, OSError):
        return None


def paused(child: Child, now: float) -> Child:
    """The child, stopped."""
    return _signalled(child, signal.SIGSTOP)._replace(since=now) if child.since is None else child


def resumed(child: Child, now: float) -> Child:
    """The child, going on."""
    if child.since is None:
        return child
    return _signalled(child, signal.SIGCONT)._replace(since=None, pauses=(*child.pauses, (child.since, now)))


def ended(child: Child) -> int:
    """Ends a process and whatever it started; its exit status, negative for a signal."""
    if not child.ended:
        _signalled(child, signal.SIGKILL)
    child.connection.close()
    try:
        return child.process.wait(10)
    except subprocess.TimeoutExpired:  # it said that it ends, and hangs in what a library does at exit
        _signalled(child, signal.SIGKILL)
        return child.process.wait()


def died(child: Child) -> int:
    """Exit status of a process that hung up by itself; it is ended where it lives on."""
    try:
        return child.process.wait(10)
    except subprocess.TimeoutExpired:
        _signalled(child, signal.SIGKILL)
        return child.process.wait()


def _signalled(child: Child, number: int) -> Child:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.process.pid, number)
    return child


def spent(child: Child, now: float) -> float:
    """Seconds since it began in which it was not paused."""
    lasting = now - child.since if child.since is not None else 0.0
    return now - child.began - lasting - sum(end - begin for begin, end in child.pauses)


def said(child: Child) -> str:
    """Everything that a process printed."""
    child.log.seek(0)
    return child.log.read().decode(errors="replace")


def last_lines(text: str) -> str:
    """The end of what was printed."""
    return "\n".join(text.strip().splitlines()[-LINES:])[-LETTERS:]


def signal_name(status: int) -> str:
    """What an exit status means, in words."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
