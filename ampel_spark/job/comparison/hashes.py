"""The input hash of tied results without Spark: its ``xxhash64``, by numpy.

Spark hashes one column after the other, each with the hash so far as its seed (42 at first); null
changes nothing, structs and lists are their elements in order. Needed where a state has several
results under one trace, to know which of them a run read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

__all__ = ["input_hashes"]

Words = npt.NDArray[np.uint64]

_SEED = 42
_P1, _P2, _P3, _P4, _P5 = (
    np.uint64(p)
    for p in (
        0x9E3779B185EBCA87,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0x85EBCA77C2B2AE63,
        0x27D4EB2F165667C5,
    )
)


def input_hashes(ties: Mapping[str, Sequence[pa.Array]], count: int) -> Words:
    """Return the hash over tied results, as ``t2_<unit>.input_hash`` has it in hexadecimal.

    Parameters
    ----------
    ties : mapping of str to sequence of pyarrow.Array with shape (N,)
        By the tied unit's name: its status and then its columns, in order; null: no result.
    count : int
        N.
    """
    hashes = np.full(count, _SEED, np.uint64)
    if not ties:
        return np.zeros(count, np.uint64)
    for name in sorted(ties):
        for column in ties[name]:
            hashes = _hashed(column, hashes)
    return hashes


def _hashed(column: pa.Array, seeds: Words) -> Words:
    kind = column.type
    known = np.asarray(column.is_valid())
    if pa.types.is_floating(kind):
        values = np.asarray(column.cast(pa.float64()).fill_null(0.0))
        values = np.where(values == 0, 0.0, values)  # no negative zero
        if kind == pa.float32():
            hashed = _word4(values.astype(np.float32).view(np.uint32).astype(np.uint64), seeds)
        else:
            hashed = _word8(values.view(np.uint64), seeds)
    elif pa.types.is_int64(kind):
        hashed = _word8(np.asarray(column.fill_null(0)).astype(np.int64).view(np.uint64), seeds)
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        words = np.asarray(column.cast(pa.int32()).fill_null(0)).astype(np.int32)
        hashed = _word4(words.view(np.uint32).astype(np.uint64), seeds)
    else:
        pairs = zip(column.to_pylist(), seeds.tolist(), strict=True)
        value_type = getattr(kind, "value_type", kind)
        hashed = np.array([_one(value, value_type, seed) for value, seed in pairs], np.uint64)
    return np.where(known, hashed, seeds)


def _one(value: Any, kind: pa.DataType, seed: int) -> int:
    """Hash one text or one list, element by element."""
    if value is None:
        return seed
    if isinstance(value, str):
        return xxhash.xxh64_intdigest(value.encode(), seed)
    for part in value:
        if isinstance(part, str):
            seed = xxhash.xxh64_intdigest(part.encode(), seed)
        else:
            seed = int(_hashed(pa.array([part], kind), np.array([seed], np.uint64))[0])
    return seed


def _word8(words: Words, seeds: Words) -> Words:
    with np.errstate(over="ignore"):
        hashes = seeds + _P5 + np.uint64(8)
        hashes ^= _turned(words * _P2, 31) * _P1
        return _mixed(_turned(hashes, 27) * _P1 + _P4)


def _word4(words: Words, seeds: Words) -> Words:
    with np.errstate(over="ignore"):
        hashes = seeds + _P5 + np.uint64(4)
        hashes ^= words * _P1
        return _mixed(_turned(hashes, 23) * _P2 + _P3)


def _turned(words: Words, by: int) -> Words:
    return (words << np.uint64(by)) | (words >> np.uint64(64 - by))


def _mixed(hashes: Words) -> Words:
    with np.errstate(over="ignore"):
        hashes = (hashes ^ (hashes >> np.uint64(33))) * _P2
        hashes = (hashes ^ (hashes >> np.uint64(29))) * _P3
    return hashes ^ (hashes >> np.uint64(32))
