"""The process from which Spark's Python workers fork, instead of ``pyspark.daemon``.

Spark starts one daemon in each executor, which forks a worker for each core. PySpark's own daemon
makes every task pay:

- It imports pyspark from ``pyspark.zip``, and every task calls `importlib.invalidate_caches`, upon
  which some fifty importers read the archive's directory again: 0.25 s of CPU a task. Here the
  archives that belong to the *installed* pyspark leave the path, and the same code comes from its
  folder.
- Every worker imports numpy, pyarrow and pandas anew. Here they are imported once, before the fork,
  and kept from the garbage collector, which runs after every task.

``spark.python.daemon.module`` in ``conf/spark/common.conf`` chooses it; ``pyspark.daemon`` there,
or in the ``conf`` of `ampel_spark.session.get_session`, switches it off. ``AMPEL_SPARK_PRELOAD``
names the modules to import before the fork.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["drop_archives", "hangs_up_quietly", "preload"]


def drop_archives(path: list[str]) -> list[str]:
    """Return `path` without the archives that hold what the installed pyspark's folder holds too.

    An archive of another installation stays: the JVM that named it may speak another protocol.

    Parameters
    ----------
    path : list of str
        Folders and archives, as in `sys.path`.
    """
    folders = [Path(entry, "pyspark").resolve() for entry in path if os.path.isdir(entry)]
    installed = next((folder for folder in folders if (folder / "daemon.py").is_file()), None)
    if installed is None:
        return path
    return [
        entry
        for entry in path
        if os.path.isdir(entry) or installed not in Path(entry).resolve().parents
    ]


def preload(names: str) -> None:
    """Import modules, and keep the garbage collector from them.

    Parameters
    ----------
    names : str
        The modules, with commas between them.
    """
    for name in filter(None, names.split(",")):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def hangs_up_quietly(worker: Callable[..., int]) -> Callable[..., int]:
    """Return pyspark's `worker` so that a JVM that wants no more of an answer is no error.

    Spark closes the connection of a task that it stops early (a `limit`, the end of a session); the
    worker then fails to flush, and its traceback would stand between the lines of a job.
    """

    def run(*args: Any) -> int:
        try:
            return worker(*args)
        except BrokenPipeError:
            return 1  # this worker is not used again

    return run


def _main() -> None:
    kept = drop_archives(sys.path)
    for entry in set(sys.path).difference(kept):
        sys.path_importer_cache.pop(entry, None)  # invalidate_caches goes through these
    sys.path[:] = kept
    daemon: Any = importlib.import_module("pyspark.daemon")
    daemon.worker = hangs_up_quietly(daemon.worker)
    preload(os.environ.get("AMPEL_SPARK_PRELOAD", ""))
    daemon.manager()


if __name__ == "__main__":
    _main()
