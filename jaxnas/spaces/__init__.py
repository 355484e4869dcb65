"""What may be built: spaces, their operations and networks, and the genotypes that a search returns."""

from jaxnas.spaces.darts import darts as darts
from jaxnas.spaces.darts import darts_network as darts_network
from jaxnas.spaces.darts import s1 as s1
from jaxnas.spaces.darts import s2 as s2
from jaxnas.spaces.darts import s3 as s3
from jaxnas.spaces.darts import s4 as s4
from jaxnas.spaces.nas_bench_201 import nas_bench_201 as nas_bench_201
from jaxnas.spaces.nas_bench_201 import nas_bench_201_network as nas_bench_201_network
