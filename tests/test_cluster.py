"""The script for SLURM, with stand-ins for srun, scontrol and jaxnas; what the Dockerfile takes is there."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "cluster" / "seeds.sh"
STANDS_IN = {
    "srun": 'exec "$@"',
    "scontrol": 'echo "scontrol $*"',
    "jaxnas": 'echo "jaxnas $*"; exit "${STATUS:-0}"',
}


@pytest.fixture
def job(tmp_path):
    """(arguments..., variables) -> exit status, stdout and stderr of the job with number 3 in an empty folder."""
    (tmp_path / "bin").mkdir()
    for name, body in STANDS_IN.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)

    def run(*args, **variables):
        env = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "SLURM_JOB_ID": "77"}
        env |= {"SLURM_ARRAY_TASK_ID": "3", **variables}
        done = subprocess.run(
            ["bash", SCRIPT, *args], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    return run


COMMAND = ("runs/a b-SEED", "evaluate", "runs/SEED", "--label", "two words")
STARTED = "jaxnas evaluate runs/3 --label two words --seed 3 --out runs/a b-3"


def test_a_job_starts_goes_on_and_is_finished(job, tmp_path):
    assert job(*COMMAND) == (0, f"{STARTED}\n", "")
    folder = tmp_path / "runs" / "a b-3"
    folder.mkdir(parents=True)
    (folder / "config.json").touch()
    assert job(*COMMAND) == (0, f"{STARTED} --resume\n", "")
    (folder / "result.json").touch()
    assert job(*COMMAND) == (0, "runs/a b-3 is finished\n", "")


def test_a_job_that_was_ended_goes_back_to_the_queue_and_one_that_failed_does_not(job):
    assert job(*COMMAND, STATUS="143") == (143, f"{STARTED}\nscontrol requeue 77\n", "")
    assert job(*COMMAND, STATUS="1") == (1, f"{STARTED}\n", "")


def test_what_cannot_be_meant_is_refused(job):
    for args in ((), ("runs/a-SEED",), ("runs/a", "search")):
        status, out, told = job(*args)
        assert (status, out) == (2, "") and "runs/darts-SEED search" in told
    status, out, told = job(*COMMAND, SLURM_ARRAY_TASK_ID="")
    assert status and not out and "start this with sbatch --array=0-3" in told


def test_the_dockerfile_copies_what_is_there_and_not_ignored():
    """And the extra that its page names is one."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = {name for line in re.findall(r"^COPY (.*) \S+$", text, re.M) for name in line.split()}
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").split() if line.startswith("!")}
    assert copied == kept and all((ROOT / name).exists() for name in copied)
    extras = re.findall(r"EXTRAS=(\w+)", (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8"))
    assert extras == ["cuda"] and "\ncuda = [" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
