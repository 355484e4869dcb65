"""Pictures of searches on a table: what the best architecture so far is worth, over simulated time.

Where in the river: on the bank, looking on, beside `drawing.py`. Knows arrays only.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.ticker import MaxNLocator

from jaxnas.drawing import COLOURS, FONT, INK, QUIET, VARIANTS, _quieten
from jaxnas.picture import Picture


def draw_over_time(times, found: Mapping[str, np.ndarray], *, best: float, ylabel: str = "accuracy, %") -> Picture:
    """Mean over runs of each method, two standard errors of it as a band, and the best of the table as a line.

    Args:
      times: [T] simulated seconds, rising.
      found: {method: [R, T] percent, NaN before the first evaluation of a run}.
      best: percent, of the best row.
      ylabel: what is shown.

    Raises:
      ValueError: where nothing is given, or the shapes contradict each other.
    """
    times = np.asarray(times, float)
    if not found or any(values.shape[1:] != times.shape for values in found.values()):
        raise ValueError(f"draw_over_time: {len(found)} methods; each needs [runs, {len(times)}] numbers.")
    figure = Picture(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    lowest = best
    for place, (name, values) in enumerate(found.items()):
        whole = ~np.isnan(values).any(0)  # times at which every run has an answer
        mean = values[:, whole].mean(0)
        error = 2 * values[:, whole].std(0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0 * mean
        colour, dash = COLOURS[2 + place % 4], VARIANTS[place % len(VARIANTS)][0]
        axes.fill_between(times[whole], mean - error, mean + error, color=colour, alpha=0.15, lw=0)
        axes.plot(times[whole], mean, color=colour, ls=dash, lw=1.8, label=name)
        lowest = min([lowest, *mean[len(times) // 20 :]])  # the steep start of a run is cut off
    axes.axhline(best, color=INK, lw=1)
    axes.annotate("best of the table", (times[0], best), (3, 3), textcoords="offset points", fontsize=FONT, color=INK)
    axes.set_ylim(lowest - 0.1 * (best - lowest), best + 0.12 * (best - lowest) + 1e-3)
    axes.set_xlim(0, times[-1])
    axes.set_xlabel("simulated seconds", fontsize=FONT + 1)
    axes.set_ylabel(ylabel, fontsize=FONT + 1)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.legend(frameon=False, fontsize=FONT, loc="lower right", edgecolor=QUIET)
    _quieten(axes)
    axes.set_axisbelow(True)
    return figure
