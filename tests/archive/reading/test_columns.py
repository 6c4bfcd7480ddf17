"""Packets that go column by column become what the plain route makes of them, bit for bit."""

from __future__ import annotations

import copy
import gzip
import io
import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ampel_spark.archive.reading import packets
from ampel_spark.archive.reading.avro import INTEGER, REAL, TEXT, decode, payload_of
from ampel_spark.archive.reading.files import find_files
from tests.archive.conftest import SCHEMA, Body, Make
from tests.archive.twin import JD, objects

Routes = Callable[[Iterable[Path]], tuple[list[dict[str, Any]], list[dict[str, Any]], int]]


def sort_key(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[k]) for k in ("row", "file", "member"))


@pytest.fixture
def routes(monkeypatch: pytest.MonkeyPatch) -> Routes:
    """Read files by both routes: rows, rows of the plain one, packets left to that by the first."""

    def read(paths: Iterable[Path]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
        files = [str(path) for path in paths]
        one_by_one: list[str] = []
        plain = packets._decode

        def counted(name: str, data: bytes, schema: str | None) -> Any:
            one_by_one.append(name)
            return plain(name, data, schema)

        found = []
        for is_plain in (False, True):
            with monkeypatch.context() as patch:
                patch.setattr(packets, "PLAIN", is_plain)
                if not is_plain:
                    patch.setattr(packets, "_decode", counted)
                table = pa.Table.from_batches(packets.read_batches(files))
                found.append(sorted(table.to_pylist(), key=sort_key))
        return found[0], found[1], len(one_by_one)

    return read


def same(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> bool:
    return repr(one) == repr(two)  # nan is nan


def test_ordinary_packets_all_go_at_once_and_give_the_same(
    make: Make, routes: Routes, tmp_path: Path
) -> None:
    nights = objects(make, 3, 40, 4)
    paths = [make.night(tmp_path / f"{i}.tar.gz", night) for i, night in enumerate(nights)]
    fast, plain, left = routes(paths)
    assert left == 0
    assert same(fast, plain)
    assert sum(len(row["forced"] or ()) for row in fast) > 50


def odd(make: Make) -> dict[str, Body]:
    own = make.detection(7, JD)
    limit = make.limit(JD - 1, 19.0)
    wrong: dict[str, Body] = {
        "two limits under one id": make.packet(own, [limit, {**limit, "pid": 1}]),
        "a detection twice": make.packet(own, [{**own, "magpsf": 17.0}]),
        "no magnitude in the history": make.packet(own, [make.detection(5, JD - 1, None)]),
        "no sign in the history": make.packet(own, [make.detection(5, JD - 1, isdiffpos=None)]),
        "a limit of another band": make.packet(own, [make.limit(JD - 1, fid=9)]),
        "a limit without a channel": make.packet(own, [make.limit(JD - 1, rcid=None)]),
        "no limit": make.packet(own, [make.limit(JD - 1, None), make.limit(JD - 2, -999.0)]),
        "infinite limits": make.packet(own, [make.limit(JD - 1, float("inf"))]),
        "a time before the survey": make.packet(own, [make.limit(2400000.5, 19.0)]),
        "negative": make.packet({**own, "isdiffpos": "f"}, [make.detection(5, JD, isdiffpos="0")]),
        "no name": make.packet(own, name="SN2011fe"),
        "out of range": make.packet({**own, "ra": 400.0}),
        "another band": make.packet({**own, "fid": 4}),
        "no magnitude": make.packet({**own, "magpsf": float("nan")}),
        "another id": make.packet(own, candid=8),
        "an own field": make.packet(own, classification="SN"),
    }
    forced = {"jd": JD, "fid": 1, "pid": 1, "programid": 1, "field": 5, "rcid": 1,
              "diffmaglim": 20.0, "forcediffimflux": 10.0, "forcediffimfluxunc": 2.0,
              "magzpsci": 26.0, "procstatus": "0"}  # fmt: skip
    for i, change in enumerate(
        [{}, {"forcediffimflux": -99999.0}, {"forcediffimflux": None}, {"forcediffimfluxunc": 0.0},
         {"forcediffimflux": -3.0}, {"magzpsci": None}, {"diffmaglim": -1.0}, {"procstatus": None}]
    ):  # fmt: skip
        wrong[f"forced {i}"] = make.packet(own, fp_hists=[{**forced, **change}])
    wrong["forced twice"] = make.packet(own, fp_hists=[forced, {**forced, "pid": 2}])
    return wrong


def test_odd_packets_are_left_to_the_plain_route_or_give_the_same(
    make: Make, routes: Routes, tmp_path: Path
) -> None:
    members = {name: make.avro(packet) for name, packet in odd(make).items()}
    text = copy.deepcopy(SCHEMA)
    for field in text["fields"][3]["type"]["fields"]:
        if field["name"] == "rb":
            field["type"] = "string"
    members["a changed type"] = make.avro(make.packet(make.detection(2, JD, rb="good")), text)
    wide = json.loads(json.dumps(SCHEMA).replace('"float"', '"double"'))
    wide["fields"][3]["type"]["fields"].append({"name": "novelty", "type": ["null", "float"]})
    members["a new field"] = make.avro(make.packet(make.detection(3, JD, novelty=0.5)), wide)
    path = tmp_path / "odd.tar"
    path.write_bytes(make.tar(members))
    fast, plain, left = routes([path])
    assert same(fast, plain)
    assert 8 <= left <= 16
    rows = {row["member"]: row for row in fast}
    assert json.loads(rows["a new field"]["extra"]) == {"candidate.novelty": 0.5}
    assert "field rb" in rows["a changed type"]["detail"]
    assert rows["a changed type"]["reason"] == "bad_value"


@pytest.mark.real_data
def test_the_real_archive_goes_at_once_and_gives_the_same(
    shared_data: Path, routes: Routes
) -> None:
    files = find_files([shared_data / "ztf_alerts" / "archive"])[::4]
    fast, plain, left = routes(files)
    assert left == 0
    assert len(fast) > 60
    assert same(fast, plain)


_scalar = st.one_of(
    st.none(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False),
    st.text(max_size=9),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries({"a": _scalar, "list": st.lists(st.tuples(_scalar, _scalar))}),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["null", "deflate", "snappy"]),
)
def test_decoded_values_are_those_of_fastavro(rows: list[dict[str, Any]], codec: str) -> None:
    scalar = ["null", "long", "double", "string"]
    item = {"type": "record", "name": "item", "fields": [
        {"name": "skipped", "type": {"type": "map", "values": "bytes"}},
        {"name": "x", "type": scalar}, {"name": "y", "type": scalar}]}  # fmt: skip
    schema = {"type": "record", "name": "alert", "fields": [
        {"name": "stamp", "type": {"type": "fixed", "size": 3, "name": "stamp"}},
        {"name": "a", "type": scalar},
        {"name": "other", "type": {"type": "array", "items": {"type": "array", "items": "int"}}},
        {"name": "prv_candidates", "type": ["null", {"type": "array", "items": item}]},
    ]}  # fmt: skip
    found = []
    for row in rows:
        packet = {"stamp": b"abc", "a": row["a"], "other": [[1, 2], [], [3]], "prv_candidates": [
            {"skipped": {"k": b"v"}, "x": x, "y": y} for x, y in row["list"]]}  # fmt: skip
        stream = io.BytesIO()
        fastavro.writer(stream, schema, [packet], codec=codec)
        made = payload_of(stream.getvalue())
        assert made is not None
        found.append(made)
    decoded = decode(found[0][0], [payload for _, payload in found])
    assert decoded.good.all()
    assert decoded.counts[1].tolist() == [len(row["list"]) for row in rows]
    expected = {
        ("a", 0): [row["a"] for row in rows],
        ("prv_candidates.x", 1): [x for row in rows for x, _ in row["list"]],
        ("prv_candidates.y", 1): [y for row in rows for _, y in row["list"]],
    }
    for (path, level), values in expected.items():
        kinds = decoded.kind(path, level).tolist()
        kind_of = {type(None): 0, int: INTEGER, float: REAL, str: TEXT}
        assert kinds == [kind_of[type(v)] for v in values]
        for kind, back in ((INTEGER, decoded.integers(path, level).tolist()),
                           (REAL, decoded.reals(path, level).tolist()),
                           (TEXT, decoded.texts(path, level))):  # fmt: skip
            assert [b for b, k in zip(back, kinds, strict=True) if k == kind] == [
                v for v, k in zip(values, kinds, strict=True) if k == kind
            ]


def damaged(data: bytes, draw: random.Random) -> bytes:
    """Flip bits, cut, or swap two pieces."""
    out = bytearray(data)
    what = draw.randrange(4)
    if what == 0:
        for _ in range(draw.randrange(1, 6)):
            out[draw.randrange(len(out))] ^= 1 << draw.randrange(8)
    elif what == 1:
        del out[draw.randrange(len(out)) :]
    elif what == 2:
        begin = draw.randrange(len(out))
        del out[begin : begin + draw.randrange(1, 64)]
    else:
        size = draw.randrange(1, 64)
        a, b = (draw.randrange(len(out) - size) for _ in range(2))
        out[a : a + size], out[b : b + size] = out[b : b + size], out[a : a + size]
    return bytes(out)


def test_1600_damaged_packets_are_all_accounted_for(
    make: Make, routes: Routes, tmp_path: Path
) -> None:
    draw = random.Random(11)
    whole = [make.avro(p, codec=codec) for codec in ("null", "deflate") for p in odd(make).values()]
    # Damage to what is in the schema is far too frequent by length alone: every other time, none.
    heads = [data.index(b"0123456789abcdef") for data in whole]
    bad = kept = 0
    for part in range(8):
        members = {}
        for i in range(200):
            which = draw.randrange(len(whole))
            data, head = whole[which], heads[which] if i % 2 else 0
            members[f"{i}.avro"] = data[:head] + damaged(data[head:], draw)
        path = tmp_path / f"{part}.tar"
        path.write_bytes(make.tar(members))
        fast, plain, _ = routes([path])
        assert same(fast, plain)
        (end,) = (row for row in fast if row["row"] == "end")
        members_seen = [row for row in fast if row["row"] in ("packet", "bad")]
        assert end["seen"] == len(members_seen) >= 200
        assert {row["member"].partition("#")[0] for row in fast if row["row"] != "end"} == set(
            members
        )
        bad += sum(row["row"] == "bad" for row in fast)
        kept += sum(row["row"] == "packet" for row in fast)
    assert bad > 800
    assert kept > 100


def test_500_damaged_tars_lose_nothing_in_silence(
    make: Make, rows_of: Callable[[Path], list[dict[str, Any]]], tmp_path: Path
) -> None:
    draw = random.Random(12)
    members = {f"{i}.avro": make.avro(make.packet(make.detection(i, JD))) for i in (1, 2, 3)}
    tar = make.tar(members)
    tar = tar[: len(tar.rstrip(b"\0")) // 512 * 512 + 1024]  # with little more than its end
    broken = 0
    for i in range(500):
        path = tmp_path / ("night.tar.gz" if i % 2 else "night.tar")
        path.write_bytes(
            damaged(gzip.compress(tar, mtime=0), draw) if i % 2 else damaged(tar, draw)
        )
        rows = rows_of(path)
        said = [row for row in rows if row["row"] in ("bad", "broken")]
        whole = [row for row in rows if row["row"] == "packet"]
        assert rows[-1]["seen"] == sum(row["row"] in ("packet", "bad") for row in rows)
        # less than all three packets: something says why
        assert said or len(whole) >= 3, i
        broken += bool(said)
    assert broken > 300
