"""A process of its own for units, so that one which misbehaves costs its light curve alone.

A library may call `sys.exit` or `os._exit`, run into a segmentation fault, take all memory, or
never come back. So a worker of Spark lets a child do its units' work, one child for all its tasks:
models stay loaded in it. Light curves go there in batches and results come back in batches, which
costs some milliseconds a thousand. Where the child dies or is silent for too long, those light
curves of the batch whose results had not come are taken one by one, by a new child: whoever it dies
on has a row that says so.
"""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import os
import pickle
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from mmap import mmap
from multiprocessing.connection import Connection, Pipe

import pyarrow as pa

__all__ = ["SILENCE", "Ended", "Task", "beat", "guarded"]

#: Seconds without a sign of life after which a unit counts as hanging.
SILENCE = 600.0

#: Does the work of a task: gets the unit as bytes, light curves, and how many to take at a time.
Task = Callable[[bytes, pa.RecordBatch, int], Iterator[pa.RecordBatch]]

# How often it is looked whether a silent child works on [s].
_LOOK = 1.0
_DEATH_OF_PARENT = 1  # PR_SET_PDEATHSIG
_NUMBER = struct.Struct("<q")


class Ended(Exception):  # noqa: N818 - what became of a child, no error of this package
    """The child has ended, or was ended; the text says how."""


# In a child: where its signs of life are written, in memory that the parent sees.
_signs: mmap | None = None
_count = 0


def beat() -> None:
    """Give a sign of life: the next light curve begins."""
    global _count
    if _signs is not None:
        _count += 1
        _NUMBER.pack_into(_signs, 0, _count)


class _Child:
    """A process that does tasks, one after the other."""

    def __init__(self) -> None:
        self._signs = mmap(-1, _NUMBER.size)
        self._pipe, theirs = Pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            _serve(theirs, self._signs, parent)
        theirs.close()

    def run(self, unit: bytes, task: Task, batch: pa.RecordBatch, chunk: int, silence: float,
            taken: list[pa.RecordBatch]) -> None:  # fmt: skip
        """Do a task, and put results into `taken` as they come.

        Raises
        ------
        Ended
            If the child ends before the task does.
        """
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        try:
            self._pipe.send_bytes(pickle.dumps((unit, task, chunk)))
            self._pipe.send_bytes(sink.getvalue())
            while (data := self._receive(silence)) is not None:
                if data[:1] == b"!":
                    raise pickle.loads(data[1:])
                with pa.ipc.open_stream(data) as reader:
                    taken.extend(reader)
        except (EOFError, OSError):
            raise Ended(self._end()) from None

    def _receive(self, silence: float) -> bytes | None:
        """Return what the child sends; None at the end of a task."""
        heard, last = time.monotonic(), self._signs[:]
        while not self._pipe.poll(min(_LOOK, silence)):
            now = self._signs[:]
            if now != last:
                heard, last = time.monotonic(), now
            elif time.monotonic() - heard > silence:
                self.stop()
                raise Ended(f"the unit gave no sign of life for {silence:g} s, and was stopped")
        return self._pipe.recv_bytes() or None

    def _end(self) -> str:
        """Return how the child ended."""
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        self._pipe.close()
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            return f"the unit ended its process, exit code {code}"
        name = signal.Signals(-code).name
        why = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
        return f"the unit's process was ended by {name}{why}"

    def stop(self) -> None:
        """End the child."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self._end()


_child: _Child | None = None


def guarded(
    unit: bytes, task: Task, batch: pa.RecordBatch, silence: float
) -> Iterator[pa.RecordBatch | str]:
    """Yield results of light curves, in order; in the place of one that has none, why.

    Parameters
    ----------
    unit : bytes
    task : callable
        A function of a module, or a partial one; what it yields has a row for each of `batch`.
    batch : RecordBatch
        A row for each light curve.
    silence : float
        Seconds without a sign of life after which a unit counts as hanging.
    """
    global _child
    at, chunk = 0, 0
    while at < len(batch):
        taken: list[pa.RecordBatch] = []
        try:
            if _child is None:
                _child = _Child()
            _child.run(unit, task, batch.slice(at), chunk, silence, taken)
            ended = None
        except Ended as error:
            _child, ended = None, str(error)
        yield from taken
        at += sum(map(len, taken))
        if ended is None:
            return
        if chunk == 1:
            yield ended
            at += 1
        chunk = 1


@atexit.register
def _stop() -> None:
    global _child
    if _child is not None:
        _child.stop()
        _child = None


def _serve(pipe: Connection, signs: mmap, parent: int) -> None:
    """Be the child: do what comes down the pipe until there is no more, and never return."""
    global _signs
    code = 1
    try:
        _prepare(pipe, parent)
        _signs = signs
        while True:
            unit, task, chunk = pickle.loads(pipe.recv_bytes())
            with pa.ipc.open_stream(pipe.recv_bytes()) as reader:
                batch = reader.read_next_batch()
            _answer(pipe, task(unit, batch, chunk))
    except (EOFError, OSError, KeyboardInterrupt):  # the parent is gone
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    finally:
        sys.stderr.flush()
        os._exit(code)


def _answer(pipe: Connection, made: Iterator[pa.RecordBatch]) -> None:
    try:
        for rows in made:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, rows.schema) as writer:
                writer.write_batch(rows)
            pipe.send_bytes(sink.getvalue())
            beat()
    except Exception as error:  # what is no light curve's failure ends the task, in the parent
        pipe.send_bytes(b"!" + _packed(error))
    else:
        pipe.send_bytes(b"")


def _packed(error: Exception) -> bytes:
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:  # an exception of somebody's own, with arguments of its own
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return data


def _prepare(pipe: Connection, parent: int) -> None:
    """Leave the parent's connections to it, and end when it ends."""
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        if int(name) > 2 and int(name) != pipe.fileno() and _is_socket(int(name)):
            os.close(int(name))
    faulthandler.disable()  # the parent says in words how it ended
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_OF_PARENT, signal.SIGKILL)
        with open("/proc/self/oom_score_adj", "w") as score:  # rather this one than Spark
            score.write("800")
    if os.getppid() != parent:
        os._exit(0)


def _is_socket(number: int) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
    except OSError:
        return False
