"""Devices that need not be there: what a program is compiled for, and which packages that takes."""

import os
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

NUMBERS = Path(__file__).parent  # texts of GpuTargetConfigProto, one a device
CUDA_PACKAGES = {  # module -> distribution
    "jax_cuda12_plugin": "jax-cuda12-plugin",
    "jax_plugins.xla_cuda12": "jax-cuda12-pjrt",
    "nvidia.cuda_nvcc": "nvidia-cuda-nvcc-cu12",
    "nvidia.cuda_runtime": "nvidia-cuda-runtime-cu12",
    "nvidia.cuda_cupti": "nvidia-cuda-cupti-cu12",
    "nvidia.nvjitlink": "nvidia-nvjitlink-cu12",
}
OF_JAX = ("jax-cuda12-plugin", "jax-cuda12-pjrt")  # must have the version of jax
SLICES = {4: "2x2", 8: "2x4", 16: "4x4", 64: "8x8"}  # TPU chips -> the slice that has so many
CUDA_ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"}
TPU_ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}


class Target(NamedTuple):
    """A device to compile for."""

    devices: Callable[[int], Sequence[Any]]  # number -> so many of them
    missing: Callable[[], str]  # one sentence on the packages that are missing, "" where none is
    environment: Callable[[int], Mapping[str, str]]  # number of devices -> variables of the process that compiles


def cuda(name: str) -> Target:
    """An NVIDIA GPU by its numbers; no driver and no GPU are needed.

    Args:
      name: of a file `NAME.txtpb` beside this one.
    """

    def devices(number: int) -> Sequence[Any]:
        from jax.experimental import topologies

        numbers = (NUMBERS / f"{name}.txtpb").read_text(encoding="utf-8")
        found = topologies.get_topology_desc(name, "cuda", target_config=numbers, topology=f"1x1x{number}")
        return found.devices

    return Target(devices, missing_cuda, lambda number: CUDA_ENVIRONMENT)


def tpu(generation: str) -> Target:
    """A TPU; one chip is the first of a slice of four.

    Args:
      generation: as libtpu names it: "v5e", "v6e", ...
    """

    def devices(number: int) -> Sequence[Any]:
        from jax.experimental import topologies

        if number != 1 and number not in SLICES:
            raise ValueError(f"no slice of {generation} has {number} chips: take 1, {', '.join(map(str, SLICES))}.")
        name = f"{generation}:{SLICES.get(number, SLICES[4])}"
        return topologies.get_topology_desc(platform="tpu", topology_name=name).devices[:number]

    return Target(devices, missing_tpu, lambda number: TPU_ENVIRONMENT)


def cpu() -> Target:
    """This machine's processor, as so many devices as asked for."""

    def devices(number: int) -> Sequence[Any]:
        import jax

        return jax.devices("cpu")[:number]

    def environment(number: int) -> Mapping[str, str]:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={number}"
        return {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags.strip()}

    return Target(devices, lambda: "", environment)


def missing_cuda(present: Callable[[str], bool] | None = None) -> str:
    """What `cuda` needs and does not find, and the command that installs it; "" where all is there.

    Args:
      present: whether a module can be imported; asks Python unless given.
    """
    present = present or _present
    version = metadata.version("jax")
    lacking = [package for module, package in CUDA_PACKAGES.items() if not present(module)]
    other = [package for package in OF_JAX if package not in lacking and _version(package) not in ("", version)]
    if not lacking and not other:
        return ""
    reason = f"{', '.join(lacking)} missing" if lacking else f"{', '.join(other)} of another version than jax {version}"
    wanted = [f"{package}=={version}" if package in OF_JAX else package for package in CUDA_PACKAGES.values()]
    return (
        f"compiling for CUDA needs packages that are not here ({reason}): pip install --no-deps {' '.join(wanted)} "
        "(about 700 MB, no driver), or pip install 'jaxnas[aot-cuda]'."
    )


def missing_tpu(present: Callable[[str], bool] | None = None) -> str:
    """What `tpu` needs and does not find, and the command that installs it; "" where all is there.

    Args:
      present: whether a module can be imported; asks Python unless given.
    """
    if (present or _present)("libtpu"):
        return ""
    wanted = next((r for r in metadata.requires("jax") or () if r.startswith("libtpu")), "libtpu").partition(";")[0]
    return (
        f"compiling for TPU needs a package that is not here (libtpu missing): pip install --no-deps '{wanted.strip()}'"
        " (about 370 MB), or pip install 'jaxnas[aot-tpu]'."
    )


def _present(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


TARGETS: Mapping[str, Target] = {
    "cpu": cpu(),
    **{name: cuda(name) for name in ("h200", "a100")},
    **{name: tpu(name) for name in ("v5e", "v6e")},
}
