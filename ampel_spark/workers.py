"""Whether the workers of a cluster run the code that the driver runs.

On a cluster, Python on each worker imports its own copy of this package. An older copy would
compute other values under the driver's traces, and nobody would see it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import os
import platform
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ampel_spark.errors import SetupError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["check_workers", "software_here"]

#: Packages of which another version can change a value.
_LIBRARIES = ("numpy", "scipy", "pyarrow", "numba", "astropy", "astropy-healpix", "sncosmo",
              "iminuit", "xxhash", "fastavro", "pandas")  # fmt: skip

_CURE = "set the same version up on every worker (docs/clusters.md)"


def software_here() -> dict[str, str]:
    """Return what has to be the same in driver and workers: code, Python, libraries."""
    found = {"ampel_spark": _code(Path(__file__).parent), "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


@functools.cache
def _code(folder: Path) -> str:
    """Return a hash over the source of the package."""
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(folder.rglob("*.py"), key=lambda f: f.relative_to(folder).parts):
        data = file.read_bytes()
        digest.update(f"{file.relative_to(folder).as_posix()} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()


def check_workers(spark: SparkSession, here: dict[str, str] | None = None) -> int:
    """Refuse workers whose code, Python or libraries are not the driver's.

    Parameters
    ----------
    spark : SparkSession
    here : dict of str to str, optional
        The driver's; by default `software_here`.

    Returns
    -------
    int
        How many machines took part. A worker that comes later is not seen.

    Raises
    ------
    SetupError
        If there is such a worker: it is named, with what differs.
    """
    failed = importlib.import_module("py4j.protocol").Py4JJavaError
    here = here or software_here()
    context = spark.sparkContext
    tasks = 2 * max(context.defaultParallelism, 1)
    try:
        found = context.parallelize(range(tasks), tasks).mapPartitions(_there).collect()
    except failed as error:
        lines = [line.strip() for line in str(error.java_exception).splitlines()]
        said = next((line for line in lines if "ModuleNotFoundError" in line), None)
        if said is None:
            raise
        raise SetupError(f"a worker cannot run this package ({said}): {_CURE}") from None
    for host, there in found:
        other = [
            f"{name} {there.get(name)}, and the driver {version}"
            for name, version in here.items()
            if there.get(name) != version
        ]
        if other:
            raise SetupError(f"worker {host} has {'; '.join(other)}: {_CURE}")
    return len({host for host, _ in found})


def _there(numbers: Iterable[int]) -> Iterator[tuple[str, dict[str, str]]]:
    """Return a worker's machine, and what it has."""
    for _ in numbers:
        pass
    yield os.environ.get("SPARK_LOCAL_HOSTNAME") or socket.gethostname(), software_here()
