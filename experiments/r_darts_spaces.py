"""The spaces of R-DARTS, and the networks in which their answers are trained."""

import jaxnas as jn
from jaxnas.spaces.space import Space

SPACES = {
    "darts": jn.spaces.darts,
    "s1": jn.spaces.s1,
    "s2": jn.spaces.s2,
    "s3": jn.spaces.s3,
    "s4": jn.spaces.s4,
}


def network() -> Space:
    """That of DARTS; noise, which a search of S4 may keep, passes nothing on."""
    space = jn.spaces.darts_network(channels=36, layers=20)
    return space.replace(ops=(*space.ops, ("noise", jn.ops.Zero)))
