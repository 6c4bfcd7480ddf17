"""The software that a run is recorded with: versions of packages, and the project's commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

__all__ = ["git_commit", "software"]

#: Distributions whose versions a run records.
_DISTRIBUTIONS = ("ampel_spark", "pyspark", "delta-spark", "numpy", "scipy", "pandas", "pyarrow",
                  "astropy", "astropy-healpix", "sncosmo", "iminuit", "fastavro", "xxhash",
                  "numba")  # fmt: skip


def software() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change a result."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    found["java"] = _java()
    return found


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    program = f"{home}/bin/java" if home else "java"
    try:
        answer = subprocess.run(
            [program, "-version"], capture_output=True, text=True, check=True
        ).stderr
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    version = re.search(r'version "([^"]+)"', answer)
    return version[1] if version else "unknown"


def git_commit() -> str | None:
    """Return the project's commit, with ``+`` where files are changed; None outside a checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            ["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")
