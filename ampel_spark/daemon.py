"""The process from which Spark's Python workers fork, instead of ``pyspark.daemon``.

Spark starts one daemon in each executor and forks a worker from it for each core. PySpark's own
daemon costs every task twice:

- It imports pyspark from ``pyspark.zip``, and every task calls `importlib.invalidate_caches`, upon
  which some fifty importers read the archive's directory again: 0.3 s of CPU a task. Here the
  archives that belong to the *installed* pyspark leave the path, so the same code comes from its folder.
- Every worker imports numpy, pyarrow and pandas anew. Here they are imported once, before the fork,
  and put out of sight of the garbage collector, which Spark calls after every task.

It is chosen by ``spark.python.daemon.module`` in ``conf/spark/common.conf``; ``pyspark.daemon`` there,
or as ``conf`` of `ampel_spark.session.get_session`, switches it off. ``AMPEL_SPARK_PRELOAD`` names the
modules to import before the fork.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from pathlib import Path

__all__ = ["drop_archives", "preload"]


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
    """Import the modules in `names`, a list with commas, and keep the garbage collector off them."""
    for name in filter(None, names.split(",")):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def _main() -> None:
    kept = drop_archives(sys.path)
    for entry in set(sys.path).difference(kept):
        sys.path_importer_cache.pop(entry, None)  # invalidate_caches goes through these
    sys.path[:] = kept
    daemon = importlib.import_module("pyspark.daemon")
    preload(os.environ.get("AMPEL_SPARK_PRELOAD", ""))
    daemon.manager()


if __name__ == "__main__":
    _main()
