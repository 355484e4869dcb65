"""Four rules of fair comparison, and whether a comparison keeps them.

Where in the river: on the bank. Knows a comparison; judges it in words.

Reference: Li et al. 2022, a review of neural architecture search, Journal of Software 33(1), section 3.2; Yang,
  Esperança, Carlucci 2020, arXiv:1912.12522; Lindauer and Hutter 2020, arXiv:1909.02453.
"""

from collections.abc import Callable
from typing import NamedTuple

from jaxnas.evaluation.comparison import Comparison
from jaxnas.evaluation.outcomes import Outcome
from jaxnas.evaluation.statistics import coverage

WITHOUT = " without "  # in the name of a method with one part turned off
SUPERNET = (
    "These are accuracies of supernets on the images that moved alpha, not of the cells that were found: no cell was "
    "trained. Do not read a ranking of methods from them."
)


class Verdict(NamedTuple):
    """A rule, and what this comparison does about it."""

    rule: str
    met: str  # "yes", "in part" or "no"
    why: tuple[str, ...]  # sentences


def verdicts(found: Comparison) -> tuple[Verdict, ...]:
    """The four rules in order."""
    return (
        _verdict("Every network is trained by one recipe, and all details are told.", _recipe(found)),
        _verdict("Random search takes part, and each part of a method is shown to matter.", _controls(found)),
        _verdict("The split of the images is told; only one space is compared, at best with a table.", _data(found)),
        _verdict("Several seeds count, by their mean; the best run never does.", _seeds(found)),
    )


def notes(found: Comparison) -> tuple[str, ...]:
    """What else a reader has to know before numbers are compared."""
    runs = [run for method in found.methods for run in method.runs]
    said = [SUPERNET] if found.kind == "search" else []
    silent = [method.name for method in found.methods if method.accuracy is None]
    if silent:
        said.append(f"No accuracy on alpha's images: {', '.join(silent)}. Alpha never moved on images of its own.")
    for what, device, seconds in DEVICES:
        kinds = {str(device(run)) for run in runs if seconds(run) is not None}
        if len(kinds) > 1:
            said.append(f"{what} are not comparable: they were measured on {', '.join(sorted(kinds))}.")
    told = {name: sorted({str(run.versions.get(name)) for run in runs}) for name in ("jaxnas", "jax")}
    said += [f"Runs were made with several versions of {n}: {', '.join(v)}." for n, v in told.items() if len(v) > 1]
    if len({len(method.runs) for method in found.methods}) > 1:
        said.append("Methods have different numbers of runs: means of few are less certain.")
    return tuple(said)


DEVICES: tuple[tuple[str, Callable[[Outcome], str | None], Callable[[Outcome], float | None]], ...] = (
    ("Seconds of search", lambda run: run.search_device, lambda run: run.search_seconds),
    ("Seconds of training", lambda run: run.device, lambda run: run.seconds),
)


Said = list[tuple[bool | None, str]]  # (whether it speaks for the rule, if it counts; a sentence)


def _verdict(rule: str, said: Said) -> Verdict:
    kept = [good for good, _ in said if good is not None]
    return Verdict(rule, "yes" if all(kept) else "in part" if any(kept) else "no", tuple(text for _, text in said))


def _recipe(found: Comparison) -> Said:
    runs = [run for method in found.methods for run in method.runs]
    versions = all((run.versions and (run.device or run.search_device)) or found.kind == "lookup" for run in runs)
    details = "Versions, device and settings of every run are recorded." if versions else "Versions or device missing."
    if found.kind == "search":
        return [(False, "Nothing was trained alone: see the warning about supernets."), (versions, details)]
    if found.kind == "lookup":
        return [(True, f"All accuracies are from one table, {found.terms.get('table')}, which trained all alike.")]
    same = [name for name in found.terms if name.startswith("recipe.")]
    if not same:
        return [(False, "No run tells its recipe."), (versions, details)]
    return [(True, f"All {len(same)} settings of the recipe are equal; they are listed below."), (versions, details)]


def _controls(found: Comparison) -> Said:
    ablated = [method.name for method in found.methods if WITHOUT in method.name]
    random = f"{found.baseline} is the baseline." if found.baseline else "No random search takes part: add one."
    parts = f"With one part turned off: {', '.join(ablated)}." if ablated else "No ablation takes part: jaxnas ablate."
    return [(found.baseline is not None, random), (bool(ablated), parts)]


def _data(found: Comparison) -> Said:
    runs = [run for method in found.methods for run in method.runs]
    splits, table = {run.split for run in runs}, found.kind == "lookup"
    told = None not in splits or table
    split = "The split is that of the table." if table else f"Splits are recorded: {_listed(splits)}."
    if not told:
        split = "Some runs do not say which images they used."
    elif not table and len(splits) > 1 and not _shared_seed(found):
        split += " No seed is shared by two methods, so it was not checked that they used the same images."
    space = f"All genotypes are of the space {found.terms.get('space.name', found.terms.get('space'))}."
    tabular = "Accuracies are looked up in a table." if table else "No tabular benchmark: results cannot be looked up."
    return [(told, split), (True, space), (table, tabular)]


def _listed(splits: set[str | None]) -> str:
    return ", ".join(sorted(str(split)[:8] for split in splits))


def _shared_seed(found: Comparison) -> bool:
    seeds = [{run.seed for run in method.runs} for method in found.methods]
    return len(set.union(*seeds)) < sum(map(len, seeds))


def _seeds(found: Comparison) -> Said:
    few = [method.name for method in found.methods if len(method.runs) == 1]
    said: Said = [(None, "Methods are ordered by their mean; the best run is shown and counts nothing.")]
    if len(few) < len(found.methods):
        said.append((True, f"{len(found.methods) - len(few)} of {len(found.methods)} methods have more than one run."))
    if few:
        said.append((False, f"One run only, so that chance is not seen: {', '.join(few)}."))
    again = [m.name for m in found.methods if len(m.runs) > 1 and len({r.genotype for r in m.runs}) == 1]
    if again and found.kind != "search":
        text = "One genotype only, so that the chance in the search is not seen"
        said.append((False, f"{text}: {', '.join(again)}."))
    least = min((len(m.runs) for m in found.methods if len(m.runs) > 1), default=None)
    if least:
        text = (
            f"An interval from {least} runs covers the true mean in {100 * coverage(least):.0f} % of cases, not in 95 %"
        )
        enough = None if least > 2 else False
        said.append((enough, f"{text}." if least < 30 else f"The fewest runs of an interval: {least}."))
    return said
