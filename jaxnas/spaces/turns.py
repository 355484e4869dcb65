"""Evaluates a traced function in turns, so that equations of one kind that do not wait for each other are run as one.

Where in the river: beside it, under `lockstep.py` (norms) and `drawn.py` (random numbers). Knows jaxprs only.
"""

from collections.abc import Callable, Container, Hashable, Iterable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun

Kind = Callable[[JaxprEqn], Hashable]
Pair = tuple[JaxprEqn, Hashable]  # an equation and its kind
# equations of one kind, each with one result, and what each of them reads -> the result of each
Together = Callable[[Sequence[JaxprEqn], Sequence[Sequence[Any]]], Sequence[Any]]


def in_turns(function: Callable, kind: Kind, together: Together) -> Callable:
    """The function, in turns: all that waits for no marked equation, then the marked equations that are ready.

    What no result needs is not run.

    Args:
      function: of pytrees of arrays.
      kind: what equations have alike that are run together; None for those that are not marked.
      together: runs marked equations of one kind.
    """

    def call(*args):
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        values = _evaluated(closed, jax.tree.leaves(args), kind, together)
        return jax.tree.unflatten(jax.tree.structure(shape), values)

    return call


def _evaluated(closed: ClosedJaxpr, args: Sequence[Any], kind: Kind, together: Together) -> list[Any]:
    jaxpr = closed.jaxpr
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*closed.consts, *args), strict=True))
    read = lambda atoms: [atom.val if isinstance(atom, Literal) else known[atom] for atom in atoms]
    waiting = [(eqn, kind(eqn)) for eqn in _needed(jaxpr)]
    while waiting:
        now, waiting = _unmarked(waiting, set(known))
        known |= _run(jaxpr, now, [*_inputs(eqn for eqn, _ in waiting), *jaxpr.outvars], known)
        ready = [pair for pair in waiting if _is_ready(pair[0], known)]
        waiting = [pair for pair in waiting if not _is_ready(pair[0], known)]
        for eqns in _by_kind(ready):
            results = together(eqns, [read(eqn.invars) for eqn in eqns])
            known |= dict(zip((eqn.outvars[0] for eqn in eqns), results, strict=True))
    return read(jaxpr.outvars)


def _needed(jaxpr: Jaxpr) -> list[JaxprEqn]:
    """The equations that a result needs, in order: what only shapes were asked of is not run."""
    wanted, found = {atom for atom in jaxpr.outvars if not isinstance(atom, Literal)}, []
    for eqn in reversed(jaxpr.eqns):
        if eqn.effects or not wanted.isdisjoint(eqn.outvars):
            wanted |= {atom for atom in eqn.invars if not isinstance(atom, Literal)}
            found.append(eqn)
    return found[::-1]


def _unmarked(pairs: Sequence[Pair], known: set[Var]) -> tuple[list[JaxprEqn], list[Pair]]:
    """Equations that need no marked one that is still to be run, and the rest with their kinds, both in order."""
    now: list[JaxprEqn] = []
    rest: list[Pair] = []
    for eqn, kind in pairs:
        if kind is None and _is_ready(eqn, known):
            now.append(eqn)
            known |= set(eqn.outvars)
        else:
            rest.append((eqn, kind))
    return now, rest


def _is_ready(eqn: JaxprEqn, known: Container[Var]) -> bool:
    return all(isinstance(atom, Literal) or atom in known for atom in eqn.invars)


def _by_kind(pairs: Sequence[Pair]) -> list[list[JaxprEqn]]:
    groups: dict[Hashable, list[JaxprEqn]] = {}
    for eqn, kind in pairs:
        groups.setdefault(kind, []).append(eqn)
    return list(groups.values())


def _inputs(eqns: Iterable[JaxprEqn]) -> list:
    """What these read."""
    return [atom for eqn in eqns for atom in eqn.invars]


def _run(jaxpr: Jaxpr, eqns: Sequence[JaxprEqn], wanted: Sequence, known: dict[Var, Any]) -> dict[Var, Any]:
    """What is wanted of the values that some equations of a jaxpr give."""
    given = {var for eqn in eqns for var in eqn.outvars}
    outs = [*dict.fromkeys(atom for atom in wanted if not isinstance(atom, Literal) and atom in given)]
    ins = [*dict.fromkeys(a for a in _inputs(eqns) if not isinstance(a, Literal) and a not in given)]
    effects = {effect for eqn in eqns for effect in eqn.effects}
    part = jaxpr.replace(constvars=(), invars=ins, outvars=outs, eqns=eqns, effects=effects)
    return dict(zip(outs, jaxpr_as_fun(ClosedJaxpr(part, ()))(*(known[var] for var in ins)), strict=True))
