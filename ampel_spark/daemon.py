"""The process that forks Spark's Python workers, in place of ``pyspark.daemon``.

Spark starts one daemon in each executor, which forks a worker for each core. PySpark's own daemon
costs time in every task:

- It imports pyspark from ``pyspark.zip``. Every task calls `importlib.invalidate_caches`, and then
  some fifty importers read the archive's directory again: 0.25 s of CPU for each task. This daemon
  removes the archives of the *installed* pyspark from the path, and imports from its folder.
- Every worker imports numpy, pyarrow and pandas again. This daemon imports them once, before the
  fork, and hides them from the garbage collector, which runs after every task.

``spark.python.daemon.module`` in ``conf/spark/common.conf`` selects this daemon; set it to
``pyspark.daemon``, there or by `ampel_spark.session.get_session`, to switch it off.
``AMPEL_SPARK_PRELOAD`` names the modules to import before the fork.
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
    """Return `path` without the archives of the installed pyspark.

    An archive of another installation stays, as its JVM may use another protocol.

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
    """Import modules, and hide their objects from the garbage collector.

    Parameters
    ----------
    names : str
        The modules, separated by commas.
    """
    for name in filter(None, names.split(",")):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def hangs_up_quietly(worker: Callable[..., int]) -> Callable[..., int]:
    """Return pyspark's `worker` as a function that ends without a traceback if the JVM hangs up.

    Spark closes the connection of a task that it stops early (a `limit`, the end of a session); the
    worker then fails to flush, and its traceback would appear between the lines of a job.
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
