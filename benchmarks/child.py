"""A measurement in a process of its own: what it takes, and what it says, is a line of JSON."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def ask(module: str, arguments: list[Any], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Runs `python -m module ARGUMENTS` and reads the last line that it prints.

    Args:
      module: of this package; takes one argument, JSON.
      arguments: what it gets.
      environment: what is set besides this process's own variables.

    Raises:
      RuntimeError: the process failed; what it said at the end.
    """
    command = [sys.executable, "-m", module, json.dumps(arguments)]
    env = {**os.environ, **(environment or {})}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-2000:] or "no message")
    return json.loads(done.stdout.splitlines()[-1])
