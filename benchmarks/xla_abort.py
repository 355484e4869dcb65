"""A program of a dozen lines that aborts XLA's CUDA compiler; no GPU is needed.

    pip install "jax==0.10.2" jax-cuda12-plugin jax-cuda12-pjrt nvidia-cuda-nvcc-cu12 nvidia-cuda-runtime-cu12 \
        nvidia-cuda-cupti-cu12 nvidia-nvjitlink-cu12
    JAX_PLATFORMS=cpu JAX_SKIP_CUDA_CONSTRAINTS_CHECK=1 python benchmarks/xla_abort.py benchmarks/targets/h200.txtpb

Uses JAX alone, so that it can be added to a report as it is. The file is a GpuTargetConfigProto in text. What it says:

    triton_tiling_propagation.cc:627] Check failed: subdim_size_accumulator == dim_size (256 vs. 32)

and the process ends (openxla/xla#47381 reports the same check of another program). Expected: the fusion is refused, and
the program compiles. All of these are needed for it: a strided slice that merges with channels in front of a product;
zeros behind its result in each group of channels; a second product of the same images joined to it; something
elementwise; and one group taken out again. With `xla_gpu_enable_triton_gemm=false`, or with `lax.optimization_barrier`
around the operands of both products (add a second argument, "barrier"), it compiles.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

GROUPS = 8
SHAPES = ((2, 32, 32, GROUPS, 32), (256, 128), (256, 256), (3, 3, 1, 256), (512,))


def product(x, k):
    """A 1x1 convolution."""
    return jnp.matmul(*lax.optimization_barrier((x, k))) if "barrier" in sys.argv else x @ k


def program(x, narrow, wide, depthwise, scale):
    """Two branches of one image [B, H, W, groups, C] side by side, of which one group is read."""
    x = jnp.maximum(x, 0)
    left = product(x[:, ::2, ::2].reshape(2, 16, 16, 256), narrow).reshape(2, 16, 16, GROUPS, 16)
    left = jnp.pad(left, [(0, 0)] * 4 + [(0, 16)]).reshape(2, 16, 16, 256)
    right = lax.conv_general_dilated(
        x.reshape(2, 32, 32, 256),
        depthwise,
        (2, 2),
        [(1, 1), (1, 1)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=256,
    )
    both = jnp.concatenate([left, product(right, wide)], -1) * scale
    return both[..., :256].reshape(2, 16, 16, GROUPS, 32)[..., 4, :]


def main() -> None:
    """Compiles the program for the GPU that a file describes."""
    numbers = Path(sys.argv[1]).read_text(encoding="utf-8")
    there = topologies.get_topology_desc("gpu", "cuda", target_config=numbers, topology="1x1x1").devices[0]
    sharding = SingleDeviceSharding(there)
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding) for shape in SHAPES]
    jax.jit(program, out_shardings=sharding).lower(*arguments).compile()
    print("compiled")


if __name__ == "__main__":
    main()
