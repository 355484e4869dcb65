"""What may be built: spaces, their operations and networks, and the genotypes that a search returns."""

from jaxnas.spaces.darts import darts as darts
from jaxnas.spaces.darts import darts_network as darts_network
from jaxnas.spaces.darts import s1 as s1
from jaxnas.spaces.darts import s2 as s2
from jaxnas.spaces.darts import s3 as s3
from jaxnas.spaces.darts import s4 as s4
from jaxnas.spaces.darts import snas_network as snas_network
from jaxnas.spaces.imagenet import darts_imagenet_network as darts_imagenet_network
from jaxnas.spaces.nas_bench_201 import nas_bench_201 as nas_bench_201
from jaxnas.spaces.nas_bench_201 import nas_bench_201_network as nas_bench_201_network
from jaxnas.spaces.nasnet import fixed_reduction as fixed_reduction
from jaxnas.spaces.nasnet import nasnet as nasnet
from jaxnas.spaces.nasnet import nasnet_frc as nasnet_frc
from jaxnas.spaces.nasnet import nasnet_frc_network as nasnet_frc_network
from jaxnas.spaces.nasnet import nasnet_network as nasnet_network
