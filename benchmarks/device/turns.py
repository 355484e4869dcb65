"""The run: items are prepared beside one another, timed one at a time, and on disk as soon as they are known.

Preparing is tracing and compiling, which is most of the time and needs no quiet device. A process that is ready asks
for its turn; it gets it when no other has one, and all others are paused meanwhile. Their pauses are taken out of the
seconds that they tell.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.device import store
from benchmarks.device.plan import Item, fits, is_whole, pace
from benchmarks.device.processes import (
    Child,
    answer,
    died,
    ended,
    last_lines,
    message,
    paused,
    resumed,
    said,
    signal_name,
    spent,
    start,
)
from benchmarks.device.speaker import Span, without

LOOK = 1.0  # seconds between two looks at the clock
Running = dict[str, Child]


class Run(NamedTuple):
    """What stays the same while items are measured."""

    out: Path
    deadline: float  # of `time.monotonic`
    together: int  # processes
    rehearsal: Path | None  # folder for its compiled programs; None where it is none
    known: Sequence[Item]  # all items, for the pace
    stamp: Mapping[str, Any]  # commit and date, for each item
    tell: Callable[[str], None]


def measure(run: Run, todo: Sequence[Item], results: store.Results) -> store.Results:
    """Measures what fits into the time; the results, as they are on disk.

    Raises:
      ValueError: there is no accelerator, or another one than that of the results.
    """
    waiting, running = list(todo), {}
    try:
        while waiting or running:
            waiting, running, results = started(run, waiting, running, results)
            running = turned(running)
            ready = connection.wait([child.connection for child in running.values()], LOOK) if running else []
            for name, child in list(running.items()):
                if child.connection in ready:
                    running, results = heard(run, running, name, results)
            running, results = over_time(run, running, results)
    finally:
        for child in running.values():
            ended(child)
    return results


def started(run: Run, waiting: list[Item], running: Running, results: store.Results):
    """As many items as may run together, none while another one is timed; those that do not fit are told."""
    while waiting and len(running) < run.together and not any(child.alone or child.asks for child in running.values()):
        item, *waiting = waiting
        left = run.deadline - time.monotonic()
        if fits(item, left, speed := pace(run.known, results["items"])):
            results = begun(results, item)
            running = {**running, item.name: start(item, rows_left(item, results), run.rehearsal, len(running))}
            run.tell(f"{item.name}: started, about {item.planned * speed:.0f} s")
        else:
            run.tell(
                f"{item.name}: not started; it needs about {item.planned * speed:.0f} s, {max(0, left):.0f} are left"
            )
    return waiting, running, results


def begun(results: store.Results, item: Item) -> store.Results:
    """The results where an item begins: rows of one that was cut off are kept."""
    old = results["items"].get(item.name, {})
    rows = old["rows"] if old.get("status") in ("begun", "cut") and item.rows else {}
    return store.with_item(results, item.name, {"status": "begun", "rows": rows})


def rows_left(item: Item, results: store.Results) -> list[str]:
    """Rows of an item that have no result."""
    return [row for row in item.rows if row not in results["items"][item.name]["rows"]]


def turned(running: Running) -> Running:
    """Gives the turn to the first that asks for it; where nobody has it or asks, all go on."""
    now = time.monotonic()
    if any(child.alone for child in running.values()):
        return {name: child if child.alone else paused(child, now) for name, child in running.items()}
    asking = next((name for name, child in running.items() if child.asks), None)
    if asking is None:
        return {name: resumed(child, now) for name, child in running.items()}
    others = {name: paused(child, now) for name, child in running.items() if name != asking}
    child = resumed(running[asking], now)._replace(asks=False, alone=True)
    answer(child, "go")
    return {asking: child, **others}


def heard(run: Run, running: Running, name: str, results: store.Results) -> tuple[Running, store.Results]:
    """One message of a process, or its end."""
    child = running[name]
    news = message(child)
    if news is None:
        return gone(run, running, name, results)
    match news["kind"]:
        case "facts":
            results = with_facts(results, news["facts"], bool(run.rehearsal))
        case "begin":
            child = child._replace(row=news["row"])
        case "row":
            results = store.with_row(results, name, news["row"], in_seconds(news["value"], child.pauses))
            child = child._replace(row=None)
        case "ready" if child.alone:
            answer(child, "go")
        case "ready":
            child = child._replace(asks=True)
        case "failed":
            child = child._replace(error=news["error"], ended=True)
        case "end":
            child = child._replace(ended=True)
    store.write(run.out, results)
    return {**running, name: child}, results


def in_seconds(value: Mapping[str, Any], pauses: tuple[Span, ...]) -> dict[str, Any]:
    """A row whose spans of time became seconds, without the pauses."""
    spans = {f"{name}_seconds": without(tuple(span), pauses) for name, span in value.get("spans", {}).items()}
    return {**{name: told for name, told in value.items() if name != "spans"}, **spans}


def with_facts(results: store.Results, facts: Mapping[str, Any], rehearsal: bool) -> store.Results:
    """The results with what the machine is.

    Raises:
      ValueError: there is no accelerator, or another one than before.
    """
    before, now = results["machine"].get("device"), facts.get("device")
    if facts.get("platform") == "cpu" and not rehearsal:
        raise ValueError(
            "JAX finds no accelerator here, its device is a CPU: install JAX for the device (jax[cuda12], say), or use "
            "--rehearse, which tries everything at tiny sizes on the CPU."
        )
    if before and now and before != now:
        raise ValueError(f"--out holds results of {before}, and this device is {now}: give another folder.")
    return {**results, "machine": {**results["machine"], **facts}}


def gone(run: Run, running: Running, name: str, results: store.Results) -> tuple[Running, store.Results]:
    """A process that hung up: its item is whole, failed, or aborted; behind a row that aborted a new one goes on."""
    child = running[name]
    status = died(child)
    if child.row and child.item.rows and not child.ended:
        aborted = {"aborted": signal_name(status), "said": last_lines(said(child))}
        results = store.with_row(results, name, child.row, aborted)
        if left := rows_left(child.item, results):
            kept(run, child)
            child.connection.close()
            run.tell(f"{name}: {child.row} ended the process ({signal_name(status)}); going on behind it")
            again = start(child.item, left, run.rehearsal, child.beside)._replace(began=child.began)
            store.write(run.out, results)
            return {**running, name: again._replace(pauses=child.pauses)}, results
        child = child._replace(ended=True)
    return closed(run, running, child, verdict(child, status, results), results)


def verdict(child: Child, status: int, results: store.Results) -> dict[str, Any]:
    """How an item ended: its status, and why where it is not whole."""
    if child.error:
        return {"status": "failed", "why": child.error}
    if child.ended:
        return {"status": "measured"}
    return {"status": "aborted" if status < 0 else "failed", "why": signal_name(status)}


def closed(run: Run, running: Running, child: Child, how: Mapping[str, Any], results: store.Results):
    """The item's result, on disk, and the others going on."""
    name, now = child.item.name, time.monotonic()
    text = kept(run, child)
    told = {**results["items"][name], **how, **run.stamp, "seconds": spent(child, now), "beside": child.beside}
    if not is_whole(told):
        told["said"] = last_lines(text)
    results = store.with_item(results, name, told)
    store.write(run.out, results)
    run.tell(f"{name}: {how['status']} in {told['seconds']:.0f} s" + (f" ({how['why']})" if "why" in how else ""))
    child.connection.close()
    return {other: rest for other, rest in running.items() if other != name}, results


def kept(run: Run, child: Child) -> str:
    """What a process printed, behind what others did in the log file."""
    text = said(child)
    with open(run.out / "log.txt", "a", encoding="utf-8") as file:
        file.write(f"== {child.item.name}\n{text}\n" if text.strip() else "")
    child.log.close()
    return text


def over_time(run: Run, running: Running, results: store.Results) -> tuple[Running, store.Results]:
    """Ends what has had its time, or everything when the time is up."""
    now = time.monotonic()
    for child in list(running.values()):
        late, up = spent(child, now) > child.item.limit, now > run.deadline
        if late or up:
            status, why = ("timed out", f"{child.item.limit:.0f} s") if late else ("cut", "the time is up")
            ended(child)
            running, results = closed(run, running, child, {"status": status, "why": why}, results)
    return running, results
