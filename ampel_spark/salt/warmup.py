"""Compile the kernels, or load them: once for all processes that share a folder.

The first process that needs the kernels compiles them under a lock, which takes the better part of
a minute; the others wait for it and then load them in less than a second. Call `warm` before
workers start and none of them waits.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

__all__ = ["warm"]

_LOG = logging.getLogger(__name__)


@functools.cache
def warm() -> Path:
    """Make the compiled kernels ready in this process, and in their folder for others.

    Returns
    -------
    Path
        The folder of the compiled kernels (see `ampel_spark.kernels`), to be named by
        ``AMPEL_SPARK_KERNEL_CACHE`` on machines that share it.

    Raises
    ------
    ImportError
        Where numba is not installed.
    """
    from llvmlite import binding

    from ampel_spark.kernels import kernel_folder

    folder = kernel_folder("ampel_spark.salt.batch")
    # Machine code is for one kind of processor and one Python.
    ready = folder / f"ready-{binding.get_host_cpu_name()}-{sys.implementation.cache_tag}"
    if not ready.exists():
        with _locked(folder):
            if not ready.exists():
                _LOG.info("compiling the SALT kernels into %s", folder)
            _load(folder)
            ready.touch()
    else:
        _load(folder)
    return folder


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; without one where the file system knows none."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            _LOG.warning("no lock on %s: %s; processes may compile side by side", folder, error)
        yield


def _load(folder: Path) -> None:
    """Call each kernel once; where the folder holds what cannot be read, empty it first."""
    try:
        _call()
    except Exception as error:
        _LOG.warning("compiled kernels in %s cannot be used (%r): compiling anew", folder, error)
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
        _call()


def _call() -> None:
    """Call the kernels with the types of arrays that a fit has, and next to nothing in them."""
    from ampel_spark.salt import batch
    from ampel_spark.salt.options import FitOptions, Targets
    from ampel_spark.salt.records import Points, make_output
    from ampel_spark.salt.tables import Tables

    row, one, four = np.zeros((1, 5)), np.ones(1), np.ones((1, 1, 4))
    tables = Tables(
        flux=np.zeros((1, 4, 4, 24)), colour=np.zeros((1, 4, 4)), variance=np.zeros((1, 4, 48)),
        dispersion=np.zeros((1, 4)), mean_flux=one, nodes=np.ones((1, 4)), band_min=one,
        band_max=one, model_min=0.0, model_max=2.0, z_start=0.0, z_step=1.0, z_min=0.0, z_max=1.0,
        phase_start=0.0, phase_step=1.0, n_phases=8, var_start=0.0, var_step=1.0, n_var=8,
        relative=True,
    )  # fmt: skip
    targets = Targets(
        fixed=row, lower=row, upper=row, prior_mean=row, prior_weight=row, phase_reference=one,
        ebv=one, law_row=np.zeros(1, np.int64), law=four,
    )  # fmt: skip
    points = Points(
        offsets=np.array([0, 1]), time=one, flux=one, fluxerr=one, band=np.zeros(1, np.int32),
        zp=one, system=np.zeros(1, np.int32), system_ratio=np.ones((1, 1)),
        cov_offsets=np.zeros(0, np.int64), cov=np.zeros(0),
    )  # fmt: skip
    work = batch.make_work(tables, 1, 0)
    out = make_output(1, 1, 1)
    batch.fit_range(tables, FitOptions().settings(), targets, points, 0, 1, work, out)
    batch.predict_range(tables, targets, points, row, 0, 1, work, np.zeros(1))
