"""Minutes on one GPU, most valuable first: `python -m benchmarks.device --out DIR`.

    python -m benchmarks.device --out DIR                      # all that fits into 9 minutes; again: what is left
    python -m benchmarks.device --out DIR --images FILE        # with a real epoch, of a file of benchmarks.pack_images
    python -m benchmarks.device --out DIR --only step,eager    # some of it; --again step-gdas measures one anew
    python -m benchmarks.device --rehearse                     # everything at tiny sizes on the CPU
    python -m benchmarks.device --table DIR                    # results -> the tables of docs/performance.md

Each item is a process of its own; what is known is in DIR/results.json before the next message is read. This process
loads neither JAX nor PyTorch, and needs nothing besides Python.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.device import store, table, turns
from benchmarks.device.plan import PAPER, TINY, Item, chosen, group, items, left_to_do, reason_against
from benchmarks.device.processes import ROOT

PAGE = ROOT / "docs" / "performance.md"
MINUTES, CORES_EACH, MOST_TOGETHER = 9.0, 3, 6


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what the command line says; 0 where every item that was tried was measured."""
    options = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # processes are ended on the way out
    try:
        return command(options)
    except (ValueError, OSError) as error:
        print(f"device: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("device: interrupted; what was measured is kept, the same command goes on", file=sys.stderr)
        return 130


def command(options: argparse.Namespace) -> int:
    """One of the things that can be asked for."""
    if options.table:
        return filled(options.table, options.page)
    checked(options)
    every = items(TINY if options.rehearse else PAPER, options.images and str(options.images.resolve()))
    again = {item.name for item in chosen(every, options.again)}
    wanted = chosen(every, options.only) if options.only else every
    wanted = [item for item in every if item in wanted or item.name in again]
    if options.list:
        return listed(wanted, options)
    if options.out is None and options.rehearse:
        with tempfile.TemporaryDirectory(prefix="jaxnas-rehearsal-") as folder:
            return measured(options, Path(folder), every, wanted, again)
    if options.out is None:
        raise ValueError("--out is missing: give a folder for the results (or --rehearse, --list, --table DIR).")
    return measured(options, options.out, every, wanted, again)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    head, _, examples = (__doc__ or "").partition("\n\n")
    made = argparse.ArgumentParser(
        "python -m benchmarks.device",
        description=head,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--out", type=Path, help="folder for results.json and log.txt; what is there is not measured again"
    )
    made.add_argument("--minutes", type=float, default=MINUTES, help=f"after which everything ends; {MINUTES:g}")
    made.add_argument("--only", default="", metavar="ITEM,...", help="items, or groups: what stands before the hyphen")
    made.add_argument("--again", default="", metavar="ITEM,...", help="items that are measured again")
    made.add_argument("--images", type=Path, help="file of benchmarks.pack_images, for the real epoch")
    made.add_argument("--together", type=int, help="processes that compile at once; one for 3 cores, 6 at most")
    made.add_argument("--commit", help="of this code, where git does not tell")
    made.add_argument(
        "--rehearse", action="store_true", help="tiny sizes on the CPU; in a temporary folder unless --out"
    )
    made.add_argument("--list", action="store_true", help="what would be measured, and how long that may take")
    made.add_argument(
        "--table", type=Path, metavar="DIR", help="print the tables of a folder, and put them into --page"
    )
    made.add_argument("--page", type=Path, default=PAGE, help="docs/performance.md unless given")
    return made


def checked(options: argparse.Namespace) -> None:
    """Refuses what cannot be before anything is written.

    Raises:
      ValueError: says what was given and what is possible.
    """
    if not 0 < options.minutes <= 24 * 60:
        raise ValueError(f"--minutes is {options.minutes:g}: give more than 0 and at most {24 * 60}.")
    if options.together is not None and not 1 <= options.together <= 64:
        raise ValueError(f"--together is {options.together}: give 1 to 64 processes.")
    if options.images and not options.images.is_file():
        raise ValueError(f"--images {options.images} is no file: make one by `python -m benchmarks.pack_images`.")


def together(given: int | None) -> int:
    """Processes at once: what is given, or one for some cores each."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return given or max(1, min(MOST_TOGETHER, cores // CORES_EACH))


def measured(options: argparse.Namespace, out: Path, every: list[Item], wanted: list[Item], again: set[str]) -> int:
    """Measures what is left, and tells what there is."""
    began = time.monotonic()
    results = store.opened(out, options.rehearse)
    with store.held(out):
        todo = left_to_do(wanted, results["items"], again)
        reasons = {item.name: reason_against(item, options.images) for item in todo}
        for name, reason in reasons.items():
            if reason:
                print(f"{name}: left out, {reason}", flush=True)
        for name in sorted({item.name for item in wanted} - set(reasons)):
            print(f"{name}: {results['items'][name]['status']} before", flush=True)
        tell = lambda text: print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)
        limit, count = began + 60 * options.minutes, together(options.together)
        stamp = {"commit": options.commit or commit(), "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")}
        programs = out / "programs" if options.rehearse else None
        run = turns.Run(out, limit, count, programs, every, stamp, tell)
        results = turns.measure(run, [item for item in todo if not reasons[item.name]], results)
    return told(results, [item.name for item in todo if not reasons[item.name]], out)


def told(results: store.Results, tried: Sequence[str], out: Path) -> int:
    """Says how it ended; 0 where everything that was tried was measured, and agrees."""
    status = {name: results["items"].get(name, {}).get("status", "not started") for name in tried}
    bad = [name for name in tried if status[name] in ("failed", "aborted", "timed out") or misses(results, name)]
    later = [name for name in tried if status[name] in ("cut", "begun", "not started")]
    print(f"written: {out / store.FILE}: {len(tried) - len(bad) - len(later)} measured", end="")
    print(f", {len(bad)} with errors ({', '.join(bad)})" if bad else "", end="")
    print(f", {len(later)} left for another run ({', '.join(later)})" if later else "")
    return 1 if bad else 0


def misses(results: store.Results, name: str) -> bool:
    """Whether some row of an item failed, or does not agree with the official numbers."""
    rows = results["items"].get(name, {}).get("rows", {}).values()
    return any("failed" in row or "aborted" in row or row.get("misses") for row in rows)


def listed(wanted: Sequence[Item], options: argparse.Namespace) -> int:
    """One line for each item: what is known of it, or how long it is assumed to take."""
    found: dict[str, Any] = ((store.read(options.out) if options.out else None) or {"items": {}})["items"]
    for item in wanted:
        about = reason_against(item, options.images) or f"about {item.planned:.0f} s, at most {item.limit:.0f}"
        print(f"{item.name:24} {group(item.name):10} {found.get(item.name, {}).get('status', about)}")
    return 0


def filled(folder: Path, page: Path) -> int:
    """Prints the tables of a folder's results, and puts them into the page."""
    results = store.read(folder)
    if results is None:
        raise ValueError(f"--table {folder}: no {store.FILE} is there; measure with --out {folder} first.")
    if results["rehearsal"]:
        raise ValueError(f"--table {folder}: those are numbers of a rehearsal, which measure nothing.")
    lines = table.lines(results)
    old = page.read_text(encoding="utf-8")
    new = table.filled(old, lines, page)
    if new != old:
        page.write_text(new, encoding="utf-8")
    print("\n".join(lines))
    return 0


def commit() -> str | None:
    """The commit of this code, with a plus where it was changed; None where git does not tell."""
    told = []
    for arguments in (("rev-parse", "--short=12", "HEAD"), ("status", "--porcelain", "--untracked-files=no")):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
            told.append(done.stdout.strip())
    return told[0] + ("+" if told[1:] != [""] else "") if told else None


if __name__ == "__main__":
    sys.exit(main())
