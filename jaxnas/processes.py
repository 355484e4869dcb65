"""Several processes that run one search: who they are, who writes, and what happens when one is lost.

Where in the river: under the step, beside `parallel`, which hands these functions on. Knows processes; no devices.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import jax

HEARTBEAT = 60  # seconds without a sign of life after which a process counts as lost
LOST = ("UNKNOWN:", "UNAVAILABLE:", "INTERNAL:", "ABORTED:", "DEADLINE_EXCEEDED:", "FAILED_PRECONDITION:")
PATIENCE = 3600  # seconds that a process waits for others which compile, or write


def join(heartbeat: int = HEARTBEAT) -> None:
    """Makes this process one of several that run one search; call it before anything is computed.

    On CPU it turns JAX's folder of compiled programs off: processes that load one from there mix up their messages.

    On SLURM, Open MPI, Kubernetes and TPU slices JAX finds the others by itself. Elsewhere say it in the environment:
    JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    Args:
      heartbeat: seconds without a sign of life after which a process counts as lost.

    Raises:
      ValueError: where nothing tells which processes there are.
    """
    numbers = {"num_processes": "JAX_NUM_PROCESSES", "process_id": "JAX_PROCESS_ID"}
    try:
        given: dict[str, Any] = {key: int(os.environ[name]) for key, name in numbers.items() if name in os.environ}
        jax.distributed.initialize(heartbeat_timeout_seconds=heartbeat, shutdown_timeout_seconds=heartbeat, **given)
    except ValueError as error:
        raise ValueError(
            f"--distributed does not know its processes ({error}): set JAX_COORDINATOR_ADDRESS=host:port, "
            "JAX_NUM_PROCESSES and JAX_PROCESS_ID, or start it by SLURM or Open MPI."
        ) from error
    if jax.default_backend() == "cpu":
        jax.config.update("jax_enable_compilation_cache", False)


def leads() -> bool:
    """Whether this process writes and prints."""
    return jax.process_index() == 0


def wait(where: str) -> None:
    """Returns when all processes are there; they may take long, where a collective gives up after half a minute.

    Args:
      where: name of the place; the same in all processes.
    """
    if jax.process_count() > 1:
        import orbax.checkpoint as ocp

        everyone = set(range(jax.process_count()))
        ocp.multihost.sync_global_processes(where, timeout=PATIENCE, processes=everyone)


def leave(status: int) -> NoReturn:
    """Ends this process; where it is one of several, at once, so that the others see it and none waits for the lost.

    Args:
      status: exit status.
    """
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


@contextlib.contextmanager
def told_when_lost(advice: str) -> Iterator[None]:
    """Turns the failure of a collective into an error that says what to do.

    Args:
      advice: what to do, for the error.

    Raises:
      ConnectionError: another process ended.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # gathers fail with a ValueError, which has their status
        if jax.process_count() == 1 or not str(error).startswith(LOST):
            raise
        why = str(error).splitlines()[0][:200]
        raise ConnectionError(f"another process of this search ended or is out of reach ({why}): {advice}") from error
