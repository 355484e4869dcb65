"""The clock of all steps, ours and PyTorch's; knows neither.

one step to warm up; one to choose N; then rounds: N steps are given to the device, and the clock stops when the
last of them is done. Seconds of a step are those of a round over N, and what is told is the median of the rounds.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

MOST = 200  # steps in a round


def clock(step: Callable[[], Any], wait: Callable[[Any], Any], round_seconds: float, repeats: int) -> dict[str, Any]:
    """Seconds of a step.

    Args:
      step: gives the next step to the device and returns what to wait for.
      wait: returns when that is done.
      round_seconds: that one round should take; a round has at least one step.
      repeats: rounds.
    """
    first = _seconds(step, wait, 1)
    count = steps_of_a_round(_seconds(step, wait, 1), round_seconds)
    rounds = [_seconds(step, wait, count) / count for _ in range(repeats)]
    return {
        "step_seconds": median(rounds),
        "rounds": rounds,
        "steps_in_a_round": count,
        "first_step_seconds": first,
    }


def steps_of_a_round(one: float, wanted: float) -> int:
    """How many steps of `one` second each fill the seconds that are wanted."""
    return max(1, min(MOST, round(wanted / max(one, 1e-6))))


def _seconds(step: Callable[[], Any], wait: Callable[[Any], Any], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        last = step()
    wait(last)
    return time.perf_counter() - began
