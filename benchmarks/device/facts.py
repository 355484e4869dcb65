"""What this machine is, as JAX and the system tell it."""

import contextlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin", "flax", "optax", "numpy", "torch")
DRIVER = Path("/proc/driver/nvidia/version")


def facts() -> dict[str, Any]:
    """The device's kind, its driver where it is told, versions of packages; loads the device."""
    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "device": device.device_kind,
        "devices": len(jax.devices()),
        "runtime": " ".join(str(getattr(device.client, "platform_version", "")).split()),
        "driver": _driver(),
        "memory_bytes": (device.memory_stats() or {}).get("bytes_limit"),
        "versions": {"python": platform.python_version(), **_versions()},
        "system": platform.platform(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _driver() -> str | None:
    return DRIVER.read_text(encoding="utf-8").splitlines()[0] if DRIVER.is_file() else None
