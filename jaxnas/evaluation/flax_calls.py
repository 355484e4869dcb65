"""Modules of a network as expressions that call plain flax layers.

Where in the river: inside `flax_module.py`. Knows modules of `spaces/` and what is in `plain_layers`; no arrays.
"""

from functools import partial

import flax.linen as nn

from jaxnas.spaces import imagenet, ops
from jaxnas.spaces.nas_bench_201 import ResidualReduction
from jaxnas.spaces.nasnet import FixedReduction

WRAPPED = {ops.Skip: "reduce", ops.Sequence: "modules_1"}  # module -> submodule whose plain layer stands in its place
_PLAIN = (
    *(ops.Identity, ops.Skip, ops.MaxPool, ops.AveragePool, ops.FactorizedReduce, ops.ReluConvNorm, ops.SepConv),
    *(ops.DilConv, ops.FactorizedConv, ops.Stem, imagenet.Stem, imagenet.SecondStem, ResidualReduction),
)
_affine = partial(ops.BatchNorm, affine=True)


def call(module: nn.Module, name: str, width: int | str, x: str, *more: str) -> str:
    """The expression of a module's output.

    Args:
      module: an operation, what prepares a cell's input, a stem or a fixed block.
      name: of the submodule, where it has arrays.
      width: channels of the output: a number, or the name of a variable.
      x: the expression of its input.
      more: those of further inputs.

    Raises:
      ValueError: where no plain layer computes the same.
    """
    _check(module)
    stride = getattr(module, "stride", 1)
    match module:
        case ops.Identity() | ops.Skip(stride=1):
            return x
        case ops.MaxPool() | ops.AveragePool():
            pool = "max_pool" if isinstance(module, ops.MaxPool) else "avg_pool"
            return f"{pool}({x}, stride={stride})" if stride > 1 else f"{pool}({x})"
        case ops.Sequence(modules=(pool, _)):
            return f'norm(train, "{name}")({call(pool, name, width, x)})'
    return f'{_layer(module, width, stride)}, name="{name}")({", ".join([x, *more])}, train)'


def _layer(module: nn.Module, width: int | str, stride: int) -> str:
    """The beginning of the call that makes a plain layer."""
    strided = f", stride={stride}" if stride > 1 else ""
    match module:
        case ops.ReluConvNorm(kernel=kernel):
            return f"ReluConvNorm({width}{f', {kernel}' if kernel > 1 else ''}{strided}"
        case ops.SepConv(kernel=kernel) | ops.DilConv(kernel=kernel) | ops.FactorizedConv(kernel=kernel):
            return f"{type(module).__name__}({width}, {kernel}{strided}"
        case ops.Skip():
            return f"FactorizedReduce({width}"
        case imagenet.Stem():
            return f"ImageNetStem({width}"
    return f"{type(module).__name__}({width}"


def _check(module: nn.Module) -> None:
    """Raises ValueError unless a plain layer computes the same."""
    match module:
        case ops.Sequence(modules=(ops.MaxPool() | ops.AveragePool(), ops.BatchNorm(affine=True))):
            known = True
        case FixedReduction(affine=affine):
            known = affine
        case _:
            known = type(module) in _PLAIN and not getattr(module, "bias", False)
            known = known and getattr(module, "norm", _affine)().affine
    if not known:
        raise ValueError(
            f"{type(module).__name__} has no plain flax layer: there is one for each part of the networks of this "
            "package, with affine norms and without biases. Leave out --flax; StableHLO takes any network."
        )
