"""HEALPix tiles of a catalogue, each with a hash of its content.

Rows have one canonical order: by HEALPix pixel, then id, then all other columns. A tile with more
than `CAP` rows is split into four. A tile's hash covers the values of its rows, so it does not
depend on files, compression or the original order of rows; the catalogue's hash covers its tiles.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ampel_spark.sky import healpix

__all__ = ["CAP", "Tiles", "canonical", "cut"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: The largest number of rows of a tile that is not split, and the finest order of a tile.
CAP, FINEST = 8192, 12


@dataclass(frozen=True, eq=False)
class Tiles:
    """The tiles of a catalogue that have rows, in order on the sky.

    Attributes
    ----------
    order, pixel, rows : ndarray of int64 with shape (T,)
        HEALPix order (-1 is the whole sky), pixel, and number of rows of each tile.
    hash : tuple of str
        The hash of each tile's content, 32 hexadecimal digits.
    schema : str
        The catalogue's columns and their Arrow types, JSON.
    """

    order: Integers
    pixel: Integers
    rows: Integers
    hash: tuple[str, ...]
    schema: str

    @cached_property
    def ranges(self) -> healpix.Ranges:
        """Ranges of order-29 pixels of the tiles, ``start <= hpx < stop``, shape (T, 2)."""
        shift = 2 * (healpix.ORDER - np.maximum(self.order, 0))
        start = self.pixel << shift
        stop = np.where(self.order < 0, healpix.SKY, start + (np.int64(1) << shift))
        return np.column_stack([start, stop])

    @cached_property
    def uniq(self) -> Integers:
        """UNIQ numbers of the tiles."""
        return healpix.uniq(self.pixel, self.order)

    @property
    def content_hash(self) -> str:
        """Hash of columns and tiles: 32 hexadecimal digits."""
        content = hashlib.blake2b(self.schema.encode(), digest_size=16)
        for number, digest in zip(self.uniq.tolist(), self.hash, strict=True):
            content.update(f"\0{number} {digest}".encode())
        return content.hexdigest()

    def touched(self, ra: Floats, dec: Floats, radius: Floats) -> tuple[Integers, Integers]:
        """Return the tiles that circles touch or nearly touch.

        Parameters
        ----------
        ra, dec : ndarray with shape (N,)
            The circles' centres, degrees.
        radius : ndarray with shape (N,)
            The circles' radii, arcsec.

        Returns
        -------
        circle, tile : ndarray of int64 with shape (P,)
            Distinct pairs of a circle's and a tile's number, in order.
        """
        parts = [np.empty((0, 2), np.int64)]
        orders = np.array([healpix.order_for(r / 3600.0) for r in np.unique(radius)])
        order_of = orders[np.searchsorted(np.unique(radius), radius)]
        for order in np.unique(order_of):
            mine = np.flatnonzero((order_of == order) & np.isfinite(ra) & (np.abs(dec) <= 90))
            if order < 0:
                circle = np.repeat(mine, len(self.order))
                parts.append(
                    np.column_stack([circle, np.tile(np.arange(len(self.order)), len(mine))])
                )
                continue
            near = healpix.around(healpix.pixels(ra[mine], dec[mine], int(order)), int(order))
            circle = np.broadcast_to(mine, near.shape)[near >= 0]
            start = near[near >= 0] << (2 * (healpix.ORDER - order))
            stop = start + (1 << (2 * (healpix.ORDER - int(order))))
            first = np.searchsorted(self.ranges[:, 1], start, "right")
            last = np.searchsorted(self.ranges[:, 0], stop, "left")
            n = np.maximum(last - first, 0)
            steps = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
            parts.append(np.column_stack([np.repeat(circle, n), np.repeat(first, n) + steps]))
        pairs = np.unique(np.concatenate(parts), axis=0)
        return pairs[:, 0], pairs[:, 1]

    def inputs(self, ra: Floats, dec: Floats, radius: Floats) -> list[str]:
        """Return for each circle a hash of the tiles that it touches.

        Rows outside these tiles cannot change a search in the circle. Circles without tiles all
        have the same hash. Parameters are as for `touched`.
        """
        circle, tile = self.touched(ra, dec, radius)
        first = np.searchsorted(circle, np.arange(len(ra) + 1))
        known: dict[tuple[int, ...], str] = {}
        found = []
        for i in range(len(ra)):
            mine = tuple(tile[first[i] : first[i + 1]].tolist())
            if mine not in known:
                text = "\0".join([self.schema, *(self.hash[t] for t in mine)])
                known[mine] = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
            found.append(known[mine])
        return found


def canonical(table: pa.Table) -> pa.Table:
    """Return the rows with a position in canonical order, with ``hpx``, their order-29 pixel.

    Parameters
    ----------
    table : pyarrow.Table
        Rows as `ampel_spark.sky.sources.read_source` returns them.
    """
    ra, dec = (table[name].to_numpy() for name in ("ra", "dec"))
    good = np.isfinite(ra) & (np.abs(dec) <= 90.0)
    if not good.all():
        table = table.filter(pa.array(good))
        ra, dec = ra[good], dec[good]
    ra = np.mod(ra, 360.0) + 0.0
    ra[ra >= 360.0] = 0.0
    hpx = healpix.pixels(ra, dec)
    order = np.argsort(hpx, kind="stable")
    for name, values in (("ra", pa.array(ra)), ("dec", pa.array(dec + 0.0))):
        table = table.set_column(table.column_names.index(name), name, values)
    table = table.append_column("hpx", pa.array(hpx))
    same = np.flatnonzero(np.diff(hpx[order]) == 0)
    if len(same):
        # rows within 0.4 mas of each other are ordered by all columns
        at = np.union1d(same, same + 1)
        few = table.take(order[at])
        keys = ["hpx", *(n for n in ("id", "ra", "dec") if n in table.column_names)]
        keys += [n for n in table.column_names if n not in keys]
        order[at] = order[at][pc.sort_indices(few, [(k, "ascending") for k in keys]).to_numpy()]
    return table.take(order).combine_chunks()


def cut(table: pa.Table) -> Tiles:
    """Return the tiles of a table from `canonical`."""
    columns = {name: _bytes_of(table[name]) for name in table.column_names if name != "hpx"}
    schema = json.dumps({f.name: str(f.type) for f in table.schema if f.name != "hpx"})
    spans = np.array(_spans(table["hpx"].to_numpy()), np.int64).reshape(-1, 4)
    order, pixel, first, last = np.ascontiguousarray(spans.T)
    digests = []
    for a, b in spans[:, 2:].tolist():
        digest = hashlib.blake2b(digest_size=16)
        for name, bytes_of in columns.items():
            digest.update(f"{name}\0".encode())
            for part in bytes_of(a, b):
                digest.update(part)
        digests.append(digest.hexdigest())
    return Tiles(order, pixel, last - first, tuple(digests), schema)


def _spans(hpx: Integers) -> list[tuple[int, int, int, int]]:
    """Return order, pixel, first row and row after the last of each tile with rows."""
    found = []
    todo = [(-1, 0, 0, len(hpx))]
    while todo:
        order, pixel, first, last = todo.pop()
        if last - first > CAP and order < FINEST:
            children = range(12) if order < 0 else range(4 * pixel, 4 * pixel + 4)
            shift = 2 * (healpix.ORDER - order - 1)
            edges = [children[0] << shift, *((child + 1) << shift for child in children)]
            cuts = (first + np.searchsorted(hpx[first:last], edges)).tolist()
            todo += [(order + 1, c, cuts[i], cuts[i + 1]) for i, c in enumerate(children)][::-1]
        elif first < last:
            found.append((order, pixel, first, last))
    return found


def _bytes_of(column: pa.ChunkedArray) -> Callable[[int, int], tuple[bytes, ...]]:
    """Return a function of first and last row that returns the bytes to hash for these rows."""
    values = column.combine_chunks()
    valid = values.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_string(values.type):
        text = pa.concat_arrays([values.fill_null("")])  # in one piece, from its beginning
        ends = np.frombuffer(text.buffers()[1], "<i4")[text.offset : text.offset + len(text) + 1]
        body = memoryview(text.buffers()[2] or b"")
        sizes = np.diff(ends)

        def of_text(a: int, b: int) -> tuple[bytes, ...]:
            return valid[a:b].tobytes(), sizes[a:b].tobytes(), bytes(body[ends[a] : ends[b]])

        return of_text
    if pa.types.is_boolean(values.type):
        plain = values.fill_null(False).to_numpy(zero_copy_only=False)
    elif pa.types.is_floating(values.type):
        plain = values.fill_null(0.0).to_numpy(zero_copy_only=False)
        plain = (np.where(np.isnan(plain), np.nan, plain) + 0.0).astype("<f8")
    else:
        plain = values.fill_null(0).to_numpy(zero_copy_only=False).astype("<i8")

    def of_numbers(a: int, b: int) -> tuple[bytes, ...]:
        return valid[a:b].tobytes(), plain[a:b].tobytes()

    return of_numbers
