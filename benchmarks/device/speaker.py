"""What a measuring process says to the one that started it, and what it waits for."""

import json
import os
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from queue import Queue
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
Span = tuple[float, float]  # seconds of `time.monotonic`, which all processes of a machine share


class Speaker(NamedTuple):
    """What a measurement may tell, each call one message."""

    facts: Callable[[dict[str, Any]], None]  # about the machine
    begin: Callable[[str], None]  # a row, so that a death can be laid to it
    row: Callable[[str, dict[str, Any]], None]  # it is measured
    turn: Callable[[], None]  # waits until every other process rests


def speaker(connection: Connection) -> Speaker:
    """One that speaks through a connection; the process ends with the one at the other side."""
    answers: Queue[bytes] = Queue()
    threading.Thread(target=_listen, args=(connection, answers), daemon=True).start()

    def say(kind: str, **told: Any) -> None:
        connection.send_bytes(json.dumps({"kind": kind, **told}).encode())

    def turn() -> None:
        say("ready")
        answers.get()

    return Speaker(
        facts=lambda facts: say("facts", facts=facts),
        begin=lambda row: say("begin", row=row),
        row=lambda row, value: say("row", row=row, value=value),
        turn=turn,
    )


def _listen(connection: Connection, answers: Queue) -> None:
    """Answers as they come; whoever asked for the measurement is gone where the connection breaks."""
    try:
        while True:
            answers.put(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(1)


def spanned(call: Callable[[], T]) -> tuple[T, Span]:
    """What a call gives, and when it began and ended."""
    began = time.monotonic()
    result = call()
    return result, (began, time.monotonic())


def without(span: Span, pauses: tuple[Span, ...]) -> float:
    """Seconds of a span that lie outside some pauses, which do not overlap."""
    return span[1] - span[0] - sum(max(0.0, min(span[1], end) - max(span[0], start)) for start, end in pauses)
