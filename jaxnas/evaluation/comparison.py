"""Methods compared by the same rules: same space, images, network and recipe, or no comparison.

Where in the river: on the bank. Knows outcomes of runs and statistics; no files, no pictures, nothing that could run.
"""

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

from jaxnas.evaluation.outcomes import Outcome
from jaxnas.evaluation.statistics import Ranks, Summary, rank_correlation, relative_improvement, summary


class Method(NamedTuple):
    """All runs of one method."""

    name: str
    runs: tuple[Outcome, ...]
    accuracy: Summary | None  # percent; none where no run has one
    improvement: float | None  # percent of the baseline's mean; none without a baseline


class Pair(NamedTuple):
    """Two methods on the seeds that both have."""

    first: str
    second: str
    seeds: str  # which seeds were matched
    difference: Summary  # first - second, percentage points


class Scored(NamedTuple):
    """A genotype's score in its supernet beside its true accuracy."""

    method: str
    score: float  # percent
    accuracy: float  # percent


class Comparison(NamedTuple):
    """What can be said about methods from their runs."""

    kind: str  # evaluation, lookup, or search where nothing else was given
    terms: Mapping[str, Any]  # what is equal in all of them
    methods: tuple[Method, ...]  # by their mean accuracy, best first
    baseline: str | None  # the method that is random search
    pairs: tuple[Pair, ...]
    scored: tuple[Scored, ...]
    ranks: Ranks | None  # of `scored`


SEEDS: tuple[tuple[str, Callable[[Outcome], Hashable]], ...] = (  # how runs of two methods can be matched; first fits
    ("training seed", lambda run: run.seed),
    ("search and training seeds", lambda run: None if None in (run.search_seed, run.seed) else _seeds(run)),
    ("search seed", lambda run: run.search_seed),
)


def compare(runs: Sequence[Outcome], *, baseline: str | None = None) -> Comparison:
    """Groups runs by method and compares them, best mean first.

    Searches among retrainings (or looks into a table) are not compared: they give the scores that their genotypes had
    in the supernet, for the correlation of ranks. Where there are only searches, these are compared.

    Args:
      runs: of one kind, and searches.
      baseline: the method that is random search; unless given, one with "random" in its name.

    Raises:
      ValueError: for runs that differ in what has to be equal, copies of one run, or no run of the baseline. It says
        which runs differ, and how.
    """
    judged = [run for run in runs if run.kind != "search"]
    searches, subjects = [run for run in runs if run.kind == "search"], judged or list(runs)
    if not subjects:
        raise ValueError("nothing to compare: give the folders of runs.")
    _check_copies(runs)
    for group in (subjects, searches):
        _check_same(group)
        _check_splits(group)
    by_name = {name: tuple(run for run in subjects if run.method == name) for name in _names(subjects)}
    accuracy = {name: _accuracy(of) for name, of in by_name.items()}
    chosen = _baseline(accuracy, baseline)
    against = accuracy[chosen] if chosen else None
    made = [Method(name, of, accuracy[name], _improvement(accuracy[name], against)) for name, of in by_name.items()]
    ranked = sorted(made, key=lambda one: -one.accuracy.mean if one.accuracy else 1)
    found = [_pair(*two) for two in combinations(ranked, 2)]
    scored = _scored(judged, searches)
    ranks = rank_correlation([s.score for s in scored], [s.accuracy for s in scored]) if len(scored) > 1 else None
    pairs = tuple(pair for pair in found if pair)
    return Comparison(subjects[0].kind, subjects[0].terms, tuple(ranked), chosen, pairs, scored, ranks)


def _names(runs: Sequence[Outcome]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(run.method for run in runs))


def _seeds(run: Outcome) -> tuple[int | None, int | None]:
    return run.search_seed, run.seed


def _accuracy(runs: Sequence[Outcome]) -> Summary | None:
    values = [100 * run.accuracy for run in runs if run.accuracy is not None]
    return summary(values) if values else None


def _improvement(accuracy: Summary | None, baseline: Summary | None) -> float | None:
    if accuracy is None or baseline is None or baseline.mean == 0:
        return None
    return relative_improvement(accuracy.mean, baseline.mean)


def _baseline(accuracy: Mapping[str, Summary | None], asked: str | None) -> str | None:
    """The baseline that was asked for; else the random search with most runs."""
    if asked is not None and asked not in accuracy:
        raise ValueError(f"no run is of the baseline {asked!r}; the methods are {', '.join(accuracy)}.")
    random = [(of.n, name) for name, of in accuracy.items() if of and "random" in name.lower()]
    return asked or max(random, default=(0, None), key=lambda one: one[0])[1]


def _pair(first: Method, second: Method) -> Pair | None:
    """Differences on equal seeds; none where seeds do not tell runs apart, or fewer than two are shared."""
    for name, seed in SEEDS:
        mine, yours = ({seed(run): run.accuracy for run in one.runs} for one in (first, second))
        if any(None in found or len(found) < len(of.runs) for found, of in ((mine, first), (yours, second))):
            continue
        shared = [(mine[s], yours[s]) for s in mine if s in yours]
        differences = [100 * (a - b) for a, b in shared if a is not None and b is not None]
        if len(differences) > 1:
            return Pair(first.name, second.name, name, summary(differences))
    return None


def _scored(judged: Sequence[Outcome], searches: Sequence[Outcome]) -> tuple[Scored, ...]:
    """Genotypes that have both: the supernet's accuracy at the end of their search, and the mean of their runs."""
    found = []
    for search in searches:
        true = [run.accuracy for run in judged if run.accuracy is not None and run.genotype == search.genotype]
        if search.accuracy is not None and true:
            found.append(Scored(search.method, 100 * search.accuracy, 100 * sum(true) / len(true)))
    return tuple(found)


# ------------------------------------------------------------------------------------------------ what is refused


def _check_copies(runs: Sequence[Outcome]) -> None:
    """The same run twice would count as two seeds."""
    seen: dict[Hashable, str] = {}
    for run in runs:
        key = (run.kind, run.method, run.genotype, run.source, *_seeds(run))
        if key in seen:
            raise ValueError(
                f"{run.name} repeats {seen[key]}: same method, seed and genotype. A copy is no new evidence: leave one "
                "of them out, or run it with another seed."
            )
        seen[key] = run.name


def _check_same(runs: Sequence[Outcome]) -> None:
    names = dict.fromkeys(name for run in runs for name in run.terms)
    told = [text for name in names if (text := _differing(runs, name, partial(_term, name)))]
    if told:
        raise ValueError(
            "these runs do not measure the same thing, and are not compared:\n  "
            + "\n  ".join(told)
            + "\nCompare those that agree, or run the others again with the same settings."
        )


def _term(name: str, run: Outcome) -> Any:
    return run.terms.get(name)


def _check_splits(runs: Sequence[Outcome]) -> None:
    """A split may follow from the seed; runs of one seed have one."""
    for seed in dict.fromkeys(run.seed for run in runs):
        text = _differing([run for run in runs if run.seed == seed], "split", lambda run: run.split)
        if text:
            raise ValueError(f"runs with seed {seed} used different images: {text}. Run them on one split.")


def _differing(runs: Sequence[Outcome], name: str, value: Callable[[Outcome], Any]) -> str | None:
    """One sentence about a setting that has several values; none where it has one."""
    found: dict[str, list[str]] = {}
    for run in runs:
        found.setdefault(json.dumps(value(run), sort_keys=True), []).append(run.name)
    if len(found) < 2:
        return None
    return f"{name} is " + "; ".join(f"{_short(text)} in {', '.join(of)}" for text, of in found.items())


def _short(text: str, most: int = 100) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
