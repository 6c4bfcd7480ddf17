"""How far it is: Spark's tasks done, reported in lines while an action runs."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["INTERVAL", "progress"]

#: Seconds of silence before the first line, and between lines.
INTERVAL = 10.0


@contextlib.contextmanager
def progress(
    spark: SparkSession,
    label: str,
    out: Callable[[str], None],
    interval: float = INTERVAL,
    found: Callable[[float], str] | None = None,
) -> Iterator[None]:
    """Report now and then how many tasks of the running action are done, and what time is left.

    Parameters
    ----------
    spark : SparkSession
    label : str
        What is going on.
    out : callable
        Takes a line.
    interval : float
        Seconds between lines.
    found : callable, optional
        Says how far it is in place of the tasks, given the seconds that have gone.
    """
    tracker = spark.sparkContext.statusTracker()
    over = threading.Event()
    started = time.monotonic()

    def watch() -> None:
        while not over.wait(interval):
            if found is not None:
                out(f"{label}: {found(time.monotonic() - started)}")
                continue
            stages = [
                s for s in map(tracker.getStageInfo, tracker.getActiveStageIds()) if s is not None
            ]
            total, done = sum(s.numTasks for s in stages), sum(s.numCompletedTasks for s in stages)
            if total:
                spent = time.monotonic() - started
                left = f", about {spent * (total - done) / done:.0f} s left" if done else ""
                out(f"{label}: {done} of {total} tasks done after {spent:.0f} s{left}")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
