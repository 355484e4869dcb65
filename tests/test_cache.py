"""Compiled programs on disk: where they are kept, and that the screen says the truth about them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from jaxnas.cache import HIT, MISS, keep_programs, noticed

KEEP = """
import jax
from jaxnas.cache import keep_programs
print(keep_programs(), jax.config.jax_compilation_cache_dir, sep="\\n")
"""


def kept(tmp_path, **environment):
    """What `keep_programs` gives back in a new process, and what JAX says then."""
    base = {"JAX_COMPILATION_CACHE_DIR": "", "XDG_CACHE_HOME": "", "HOME": str(tmp_path / "home"), **environment}
    command = [sys.executable, "-c", KEEP]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **base})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-2:]


def test_programs_are_kept_where_caches_are(tmp_path):
    place = str(tmp_path / "home" / ".cache" / "jaxnas" / "xla")
    assert kept(tmp_path) == [place, place]
    other = str(tmp_path / "x" / "jaxnas" / "xla")
    assert kept(tmp_path, XDG_CACHE_HOME=str(tmp_path / "x")) == [other, other]


def test_a_folder_that_the_user_has_set_stays(tmp_path):
    mine = str(tmp_path / "mine")
    assert kept(tmp_path, JAX_COMPILATION_CACHE_DIR=mine)[0] == mine
    assert keep_programs("elsewhere") == Path(jax.config.jax_compilation_cache_dir)  # of these tests


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([], "compiled in"),
        ([MISS], "compiled in .* s; the next start finds it on disk"),
        ([HIT], "found among the compiled programs on disk, in"),
        ([HIT, HIT, MISS], "compiled in"),
    ],
)
def test_what_is_said_follows_what_happened(events, told):

    with noticed() as came_from:
        for event in events:
            jax.monitoring.record_event(event)
        assert re.match(told, came_from())
    jax.monitoring.record_event(MISS)
    assert re.match(told, came_from())  # nothing is heard behind the block
