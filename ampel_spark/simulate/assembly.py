"""The way from objects to nightly files, in this process or in several.

`observe_chunk` writes the packets of a chunk of objects to a spool file, sorted by night.
`write_night` then makes each nightly file from the spool files. So a worker has at most one chunk
or one night in memory. Chunks and files do not depend on the number of workers.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ampel_spark.simulate.avro import container_head, varint
from ampel_spark.simulate.cutouts import Pool, cutout_pieces
from ampel_spark.simulate.objects import Objects, Sky
from ampel_spark.simulate.packets import make_packets
from ampel_spark.simulate.record import of_file
from ampel_spark.simulate.tarball import PackedPart, Tarball

__all__ = ["Map", "Segment", "observe_chunk", "workers", "write_night"]

#: A function that applies another to tasks, and yields results in the order of the tasks.
Map = Callable[..., Iterator[Any]]


@dataclass(frozen=True, eq=False)
class Segment:
    """The packets of one night in one spool file, one after the other.

    Attributes
    ----------
    file : Path
        The spool file.
    nid : int
        The night's number.
    offset : int
        The place of the first packet in the file, bytes.
    sizes, candid : arrays of int
        The size in bytes and the id of each packet.
    """

    file: Path
    nid: int
    offset: int
    sizes: NDArray[np.int64]
    candid: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Context:
    """The values that each process needs for all its tasks."""

    sky: Sky
    pool: Pool
    head: PackedPart
    sync: bytes


_CONTEXT: list[_Context] = []


@contextlib.contextmanager
def workers(count: int, sky: Sky, pool: Pool) -> Iterator[Map]:
    """Provide a ``map`` that runs in this process, or in `count` others if `count` is not 1."""
    if count == 1:
        _start(sky, pool)
        try:
            yield map
        finally:
            _CONTEXT.clear()
        return
    # Spawned, not forked: the caller may have threads, as every process with a Spark session has.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, context, _start, (sky, pool)) as executor:
        yield executor.map


def observe_chunk(task: tuple[Objects, Path]) -> tuple[NDArray[np.void], list[Segment]]:
    """Write the packets of a chunk of objects to a spool file.

    Returns
    -------
    array of OUTCOME, list of Segment
        The outcome of each object, and the segment of each night in the file.
    """
    objects, file = task
    packets = make_packets(objects, _CONTEXT[0].sky)
    order = np.lexsort((packets.candid, packets.nid))
    sizes = np.array([len(packets.bodies[i]) for i in order], np.int64)
    file.write_bytes(b"".join(packets.bodies[i] for i in order))
    nid, candid = packets.nid[order], packets.candid[order]
    nights, starts = np.unique(nid, return_index=True)
    ends = np.append(starts, nid.size)[1:]
    offsets = np.append(0, np.cumsum(sizes))
    segments = [
        Segment(file, night, int(offsets[a]), sizes[a:b], candid[a:b])
        for night, a, b in zip(nights.tolist(), starts.tolist(), ends.tolist(), strict=True)
    ]
    return packets.outcomes, segments


def write_night(task: tuple[Path, list[Segment]]) -> dict[str, Any]:
    """Write a nightly file, its packets in order of candid, and return its entry in the record."""
    path, segments = task
    bodies = [body for segment in segments for body in _read(segment)]
    candids = np.concatenate([segment.candid for segment in segments])
    if np.unique(candids).size != candids.size:
        raise RuntimeError(f"{path.name}: two packets of one candid; this is an error of simulate")
    context = _CONTEXT[0]
    with Tarball(path) as tarball:
        for i in np.argsort(candids).tolist():
            candid = int(candids[i])
            cutouts = cutout_pieces(candid, context.pool)
            size = len(bodies[i]) + sum(
                len(piece.data if isinstance(piece, PackedPart) else piece) for piece in cutouts
            )
            block = varint(1) + varint(size) + bodies[i]
            tarball.add(f"{candid}.avro", [context.head, block, *cutouts, context.sync])
    return of_file(path, candids.size)


def _start(sky: Sky, pool: Pool) -> None:
    head, sync = container_head()
    _CONTEXT[:] = [_Context(sky, pool, PackedPart(head), sync)]


def _read(segment: Segment) -> list[bytes]:
    with segment.file.open("rb") as file:
        file.seek(segment.offset)
        data = file.read(int(segment.sizes.sum()))
    ends = np.cumsum(segment.sizes).tolist()
    return [data[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
