"""A comparison in words and numbers: blocks that any format can show, Markdown, and plain data for JSON.

Where in the river: on the bank. Knows comparisons; no files, no pictures.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxnas.evaluation.comparison import Comparison, Method
from jaxnas.evaluation.outcomes import Outcome
from jaxnas.evaluation.rules import notes, verdicts
from jaxnas.evaluation.statistics import RESAMPLES, Summary

NONE = "–"
HOW = (
    "Accuracies are in percent: mean ± standard deviation of the sample (n - 1) over runs. The interval is that of the "
    f"mean, 95 %, percentile bootstrap with {RESAMPLES:,} resamples and a fixed seed. Best is for the record only. "
    "RI is the relative improvement over random search, 100 (mean - random) / random."
)
SCORE = {
    "evaluation": "test accuracy",
    "lookup": "test accuracy in the table",
    "search": "accuracy of the supernet on alpha's images, not of the cell",
}


class Block(NamedTuple):
    """A heading, sentences, and a table."""

    title: str
    text: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def title(found: Comparison) -> str:
    """What the comparison is about.

    Args:
      found: from `compare`.
    """
    return f"{len(found.methods)} methods, {SCORE[found.kind]}"


def blocks(found: Comparison) -> tuple[Block, ...]:
    """All that there is to say, in the order in which it should be read; a block without content is left out.

    Args:
      found: from `compare`.
    """
    warned = Block("Before you read on", notes(found))
    made = (warned, _accuracies(found), _rules(found), _pairs(found), _costs(found), _ranks(found), _runs(found))
    return tuple(block for block in (*made, _terms(found)) if block.text or block.rows)


def _accuracies(found: Comparison) -> Block:
    header = ("method", "runs", "seeds", "genotypes", "accuracy %", "95 % interval", "best", "RI %")
    return Block("Accuracy", (HOW,), header, tuple(_accuracy_row(found, method) for method in found.methods))


def _accuracy_row(found: Comparison, method: Method) -> tuple[str, ...]:
    numbers = (len(method.runs), len({(r.search_seed, r.seed) for r in method.runs}))
    counts = (*map(str, numbers), str(len({run.genotype for run in method.runs})))
    if method.accuracy is None:
        return (method.name, *counts, NONE, NONE, NONE, NONE)
    improvement = "baseline" if method.name == found.baseline else _or(method.improvement, lambda x: f"{x:+.2f}")
    return (
        method.name,
        *counts,
        mean(method.accuracy),
        between(method.accuracy),
        _two(method.accuracy.best),
        improvement,
    )


def mean(values: Summary) -> str:
    """Mean and deviation: `97.24 ± 0.09`.

    Args:
      values: in percent.
    """
    return f"{values.mean:.2f} ± {_or(values.deviation, _two)}"


def between(values: Summary) -> str:
    """The interval: `97.10 to 97.31`.

    Args:
      values: in percent.
    """
    return _or(values.interval, lambda ends: f"{ends[0]:.2f} to {ends[1]:.2f}")


def _two(value: float) -> str:
    return f"{value:.2f}"


def _or(value: Any, told: Callable[[Any], str]) -> str:
    return NONE if value is None else told(value)


COSTS: tuple[tuple[str, Callable[[Outcome], float | None], Callable[[float], str]], ...] = (
    ("parameters, M", lambda run: run.parameters, lambda x: f"{x / 1e6:.3f}"),
    ("multiply-adds, M", lambda run: run.multiply_adds, lambda x: f"{x / 1e6:.1f}"),
    ("search, s", lambda run: run.search_seconds, lambda x: f"{x:,.0f}"),
    ("training, s", lambda run: run.seconds, lambda x: f"{x:,.0f}"),
    ("temporaries, MB", lambda run: run.temporaries, lambda x: f"{x / 1e6:,.1f}"),
    ("peak memory, MB", lambda run: run.memory, lambda x: f"{x / 1e6:,.0f}"),
)
DEVICES: tuple[tuple[str, Callable[[Outcome], str | None]], ...] = (
    ("searched on", lambda run: run.search_device),
    ("trained on", lambda run: run.device),
)


def _costs(found: Comparison) -> Block:
    known = lambda value: any(value(run) is not None for one in found.methods for run in one.runs)
    shown, devices = [cost for cost in COSTS if known(cost[1])], [device for device in DEVICES if known(device[1])]
    rows = tuple(
        (one.name, *(_spread(map(v, one.runs), f) for _, v, f in shown), *(_all(map(v, one.runs)) for _, v in devices))
        for one in found.methods
    )
    text = (
        "Means over runs; smallest and largest in brackets where they differ. Temporaries are those of the compiled "
        "program; the peak is that of the device, or, on a CPU, of the process with all that it ran before."
    )
    header = ("method", *(name for name, *_ in shown), *(name for name, _ in devices))
    return Block("Cost", (text,), header, rows) if shown else Block("Cost")


def _all(values: Iterable[str | None]) -> str:
    return ", ".join(sorted({value for value in values if value})) or NONE


def _spread(values: Iterable[float | None], told: Callable[[float], str]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return NONE
    middle, low, high = (told(x) for x in (sum(known) / len(known), min(known), max(known)))
    return middle if low == high else f"{middle} ({low} to {high})"


def _pairs(found: Comparison) -> Block:
    rows = tuple(
        (f"{p.first} - {p.second}", p.seeds, str(p.difference.n), mean(p.difference), between(p.difference))
        for p in found.pairs
    )
    text = (
        "Differences in percentage points between runs of equal seeds; an interval without 0 speaks for the first, "
        "less so with few seeds (rule 4) and many pairs."
    )
    header = ("methods", "matched by", "n", "difference", "95 % interval")
    return Block("Differences on equal seeds", (text,) if rows else (), header, rows)


def _ranks(found: Comparison) -> Block:
    if not found.scored:
        return Block("Scores of supernets and true accuracy")
    rows = tuple((one.method, _two(one.score), _two(one.accuracy)) for one in found.scored)
    text = "One genotype has both; two are needed for a correlation."
    if found.ranks:
        numbers = (_or(found.ranks.kendall, lambda x: f"{x:.3f}"), _or(found.ranks.spearman, lambda x: f"{x:.3f}"))
        over = f"Supernets at the end of their searches; correlation of ranks over {found.ranks.n} genotypes"
        text = f"{over}: Kendall's tau {numbers[0]}, Spearman's rho {numbers[1]}."
    return Block("Scores of supernets and true accuracy", (text,), ("method", "supernet %", "true %"), rows)


def _rules(found: Comparison) -> Block:
    rows = tuple((str(i), one.rule, one.met, " ".join(one.why)) for i, one in enumerate(verdicts(found), 1))
    text = "The four rules of Li et al. 2022, a review of NAS, Journal of Software 33(1), section 3.2, in short."
    return Block("Rules of a fair comparison", (text,), ("", "rule", "kept", "how"), rows)


def _runs(found: Comparison) -> Block:
    header = ("method", "run", "seed", "seed of the search", "accuracy %", "split")
    percent, short = lambda x: _or(x, lambda part: _two(100 * part)), lambda x: _or(x, lambda digest: digest[:8])
    rows = tuple(
        (run.method, run.name, _or(run.seed, str), _or(run.search_seed, str), percent(run.accuracy), short(run.split))
        for method in found.methods
        for run in method.runs
    )
    return Block("Runs", (), header, rows)


def _terms(found: Comparison) -> Block:
    rows = tuple((name, _value(value)) for name, value in found.terms.items() if value is not None)
    return Block("Equal in all runs", (), ("setting", "value"), rows)


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def markdown(found: Comparison) -> str:
    """The comparison as a Markdown document.

    Args:
      found: from `compare`.
    """
    parts = [f"# {_escaped(title(found))}"]
    for block in blocks(found):
        parts += [f"## {block.title}", *(_escaped(text) for text in block.text)]
        if block.rows:
            lines = [block.header, ["---"] * len(block.header), *block.rows]
            parts.append("\n".join(_line(line) for line in lines))
    return "\n\n".join(parts) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell if cell == "---" else _escaped(cell) for cell in cells) + " |"


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is: a label may hold anything."""
    return re.sub(r"([\\`*_\[\]<>|#~&])", r"\\\1", " ".join(text.split()))


def plain(found: Comparison) -> dict[str, Any]:
    """The comparison as plain data, with the rules and what to know, for JSON.

    Args:
      found: from `compare`.
    """
    told = [_plain(one) for one in verdicts(found)]
    return {**_plain(found), "rules": told, "notes": list(notes(found))}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    return [_plain(one) for one in value] if isinstance(value, (tuple, list)) else value
