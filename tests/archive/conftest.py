"""Packets and archive files, made by hand."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import fastavro
import pytest

_POINT = [
    ("jd", "double"), ("fid", "int"), ("pid", "long"), ("diffmaglim", ["null", "float"]),
    ("programid", "int"), ("candid", ["null", "long"]), ("isdiffpos", ["null", "string"]),
    ("rcid", ["null", "int"]), ("field", ["null", "int"]), ("ra", ["null", "double"]),
    ("dec", ["null", "double"]), ("magpsf", ["null", "float"]), ("sigmapsf", ["null", "float"]),
]  # fmt: skip

_FORCED = [
    ("jd", "double"), ("fid", "int"), ("pid", "long"), ("programid", "int"), ("field", "int"),
    ("rcid", "int"), ("diffmaglim", ["null", "float"]), ("forcediffimflux", ["null", "double"]),
    ("forcediffimfluxunc", ["null", "double"]), ("magzpsci", ["null", "float"]),
    ("procstatus", ["null", "string"]),
]  # fmt: skip


def _record(name: str, fields: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields]}


_RATED = [*_POINT, ("rb", ["null", "float"])]


def _alert(history: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return _record(
        "alert",
        [
            ("schemavsn", "string"),
            ("objectId", "string"),
            ("candid", "long"),
            ("candidate", _record("candidate", _RATED)),
            ("prv_candidates", ["null", {"type": "array", "items": _record("prv", history)}]),
            ("publisher", ["null", "string"]),
            ("classification", ["null", "string"]),
            ("fp_hists", ["null", {"type": "array", "items": _record("fp", _FORCED)}]),
        ],
    )


SCHEMA = _alert(_POINT)

#: The same, with ``rb`` in the history too.
RATED_SCHEMA = _alert(_RATED)

Body = dict[str, Any]


class Make:
    """Makes bodies of candidates, packets, their bytes, and tar files of them."""

    @staticmethod
    def detection(candid: int, jd: float, mag: float = 18.0, **changes: Any) -> Body:
        return {"jd": jd, "fid": 1, "pid": 1000, "diffmaglim": 20.5, "programid": 1,
                "candid": candid, "isdiffpos": "t", "rcid": 11, "field": 500, "ra": 10.0,
                "dec": 20.0, "magpsf": mag, "sigmapsf": 0.1, **changes}  # fmt: skip

    @staticmethod
    def limit(jd: float, limit: float = 20.0, **changes: Any) -> Body:
        return {
            "jd": jd,
            "fid": 1,
            "pid": 1000,
            "diffmaglim": limit,
            "programid": 1,
            "rcid": 11,
            "field": 500,
            **changes,
        }

    @staticmethod
    def packet(
        body: Body, history: list[Body] | None = None, name: str = "ZTF18aaaaaab", **changes: Any
    ) -> Body:
        return {"schemavsn": "3.3", "objectId": name, "candid": body["candid"], "candidate": body,
                "prv_candidates": history, "publisher": None, "classification": None,
                **changes}  # fmt: skip

    @staticmethod
    def avro(
        packet: Mapping[str, Any], schema: Mapping[str, Any] = SCHEMA, codec: str = "null"
    ) -> bytes:
        stream = io.BytesIO()
        fastavro.writer(stream, schema, [packet], codec=codec, sync_marker=b"0123456789abcdef")
        return stream.getvalue()

    @staticmethod
    def tar(members: Mapping[str, bytes]) -> bytes:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return stream.getvalue()

    def night(
        self, path: Path, packets: Iterable[Body], schema: Mapping[str, Any] = SCHEMA
    ) -> Path:
        """Write packets as ``<candid>.avro`` into a tar.gz at `path`."""
        data = self.tar({f"{p['candid']}.avro": self.avro(p, schema) for p in packets})
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(data, mtime=0))
        return path


@pytest.fixture(scope="session")
def make() -> Make:
    return Make()


@pytest.fixture
def rows_of() -> Callable[[Path], list[dict[str, Any]]]:
    """Read a file as the workers do; a list of rows."""
    from ampel_spark.archive.reading.packets import read_batches

    def read(path: Path) -> list[dict[str, Any]]:
        return [row for batch in read_batches([str(path)]) for row in batch.to_pylist()]

    return read
