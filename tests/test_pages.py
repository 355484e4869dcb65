"""The README and the tour from the first block to the last: shell and Python, in order, in one folder.

The slow set runs them twice: made smaller by the rules in `smaller` and `test_docs.SMALLER`, in a minute or two, and as
they stand, in a quarter of an hour each, where what a page shows of the output is compared with it. What neither runs
is named in `NOT_RUN` with its reason, and the page says so in front of it. The quick set runs Python blocks alone.
"""

import os
import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from rich.console import Console
from test_docs import replaced

from jaxnas.cli import main

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/tour.md")
VENV = ".ci/run runs it from a clean clone: it makes an environment"
LARGE = "needs images, a GPU or hours"
NOT_RUN = {  # beginning of a block -> why it is not run, what the page says in front of it
    "python3 -m venv .venv && .venv/bin/pip install .": (VENV, "Python 3.11 or newer, in a clone"),
    "python3 -m venv .venv && .venv/bin/pip install -e": (VENV, "Run the tests"),
    "python3 -m venv .venv\n": (VENV, "Python 3.11 or newer, in a clone"),
    "jaxnas search --dataset cifar10 --data-dir DIR --channels 16 --depth 8 --epochs 50": (LARGE, " GPU"),
}
SKIPPED = ("source .venv/bin/activate",)  # inside a block: the tests run in an environment already


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str  # "python", or "" for a shell
    text: str
    before: str  # what the page says between the block in front and this one

    @property
    def shown(self) -> bool:
        """Whether it is what a command prints, and no command."""
        commands = ("jaxnas ", "python", "source ", "pip ", "git ")
        return not self.language and not self.text.startswith(commands)

    @property
    def left_out(self) -> bool:
        return any(self.text.startswith(beginning) for beginning in NOT_RUN)


def blocks(page: str) -> list[Block]:
    """Those of a shell and of Python; what a file holds has another language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M)
    every = [Block(one[1], one[2], text[: one.start()].rpartition("\n```\n")[2]) for one in found]
    return [block for block in every if block.language in ("", "python")]


def commands(block: Block) -> list[list[str]]:
    """The words of each line."""
    lines = [shlex.split(line, comments=True) for line in block.text.splitlines()]
    return [words for words in lines if words and " ".join(words) not in SKIPPED]


SIZE = ["--channels", "4", "--depth", "1"]
SEARCH = ["--smoke", "--space", "nas_bench_201", *SIZE]


def smaller(words: list[str]) -> list[str]:
    """A search and a training of one epoch on 16 images with the smallest network; a search is DARTS of first order.

    What the page says itself stands: options behind are added where they are not there. A file that `--config` reads
    was made by a smaller command before.
    """
    if words[1] not in ("search", "evaluate") or {"--resume", "--smoke", "--config"} & {*words}:
        return words
    first_order = [] if "--strategy" in words else ["--strategy", "darts-first-order"]
    return words + (["--smoke", *SIZE] if words[1] == "evaluate" else SEARCH + first_order)


def redirected(words: list[str]) -> tuple[list[str], Path | None]:
    """A command, and the file that gets what it prints."""
    return (words[:-2], Path(words[-1])) if ">" in words else (words, None)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run_smaller(page, tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page", "QUIET": Console(quiet=True)}
    for block in blocks(page):
        if block.language == "python":
            exec(compile(replaced(block.text, Path(page).name), page, "exec"), names)
        elif not block.shown and not block.left_out:
            for line, file in map(redirected, commands(block)):
                assert line[0] == "jaxnas", f"{page}: {line[0]} is neither run nor named in NOT_RUN"
                status, printed, told = answer(main, *smaller(line)[1:])
                if file:
                    file.write_text(printed, encoding="utf-8")
                assert status == 0, f"{shlex.join(line)}: {told}"
    assert (tmp_path / "fair" / "comparison.html").exists() and (tmp_path / "files" / "network.py").exists()


def words(text: str) -> str:
    """Without numbers, units and line ends."""
    return " ".join(re.sub(r"[\d.,]*\d%?( [kMG]?B\b)?", "#", text).split())


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run_as_they_stand(page, tmp_path):
    """In a shell, a quarter of an hour each; Python blocks one after another, as in one session."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "jaxnas").write_text(f'#!/bin/sh\nexec {sys.executable} -m jaxnas "$@"\n')
    (tmp_path / "bin" / "jaxnas").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | {"PATH": path}
    env |= {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    session = output = ""
    run = partial(subprocess.run, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True, check=True)
    for block in blocks(page):
        if block.language == "python":
            session += block.text
        elif block.shown:
            assert words(block.text) in words(output)
        elif not block.left_out:
            text = "\n".join(line for line in block.text.splitlines() if not line.startswith(SKIPPED))
            output = run(["bash", "-euxo", "pipefail", "-c", text]).stdout
            print(output)
    print(run([sys.executable, "-c", session]).stdout)


def test_what_is_not_run_says_so_on_the_page():
    found = {name: [] for name in NOT_RUN}
    for page in PAGES:
        for block in blocks(page):
            for name in [name for name in NOT_RUN if block.text.startswith(name)]:
                found[name].append(page)
                assert NOT_RUN[name][1] in block.before, f"{page}: say it in front of {block.text[:40]!r}"
    assert all(found.values()), "name only what there is"


def test_blocks_are_found():
    assert len(blocks("README.md")) >= 7 and len(blocks("docs/tour.md")) >= 9
    assert [block.language for block in blocks("README.md")].count("python") == 3
