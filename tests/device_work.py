"""Work for tests of `benchmarks.device`: what a measurement may do, good and bad, in no time and without JAX."""

import os
import signal
import time
from pathlib import Path


def measure(given, rows, say):
    """Does what is given: a list of [what, argument], one after the other; with rows, that for each of them."""
    for row in rows or ("only",):
        say.begin(row)
        for what, argument in given.get(row, given.get("do", ())):
            ACTS[what](say, argument)
        say.row(row, {"pid": os.getpid(), "compared": 1, "agree": 1, "misses": []})


def turn(say, seconds):
    """Two spans: one before its turn, which others interrupt, and the turn itself."""
    began = time.monotonic()
    for _ in range(100):  # the clock of a single sleep goes on while the process is stopped
        time.sleep(seconds / 100)
    ready = time.monotonic()
    say.turn()
    got = time.monotonic()
    time.sleep(seconds)
    times = {"began": began, "got": got, "ended": time.monotonic()}
    say.row("times", {**times, "spans": {"prepared": (began, ready)}})


def fail(say, text):
    raise ValueError(text)


def kill(say, text):
    print(text, flush=True)
    os.kill(os.getpid(), signal.SIGABRT)


def after(say, mark):
    """Waits until another one leaves its mark."""
    while not Path(mark).exists():
        time.sleep(0.02)


ACTS = {
    "mark": lambda say, mark: Path(mark).touch(),
    "after": after,
    "sleep": lambda say, seconds: time.sleep(seconds),
    "turn": turn,
    "fail": fail,
    "kill": kill,
    "leave": lambda say, status: os._exit(status),
    "facts": lambda say, facts: say.facts(facts),
}
