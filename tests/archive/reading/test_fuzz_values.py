"""Whatever a field of a packet holds, it costs that packet, or that entry of its history, alone.

Every field takes every odd value in turn (`tests.archive.odd`). `make fuzz CHANGES=50000` makes
that many changes a reader in place of 2,000, in parts of 2,000, each with a seed of its own.
"""

from __future__ import annotations

import collections
import copy
import datetime
import decimal
import functools
import math
import os
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from pyarrow import parquet

from ampel_spark.archive.reading import packets, readers
from ampel_spark.archive.reading.readers import reader_of
from ampel_spark.archive.reading.surveys import OwnColumns
from ampel_spark.job.configuration.load import load_survey
from tests.archive import odd
from tests.archive.conftest import Body, Make

PARTS = max(1, int(os.environ.get("FUZZ_CHANGES", "2000")) // 2000)
CHANGES = 2000
JD = 2458300.5
Row = dict[str, Any]
Rows = list[Row]


def ztf_packet(make: Make) -> Body:
    forced = {"jd": JD - 2, "fid": 1, "pid": 1, "programid": 1, "field": 5, "rcid": 1,
              "diffmaglim": 20.0, "forcediffimflux": 10.0, "forcediffimfluxunc": 2.0,
              "magzpsci": 26.0, "procstatus": "0"}  # fmt: skip
    none = dict.fromkeys(("candid", "isdiffpos", "ra", "dec", "magpsf", "sigmapsf"))
    limit = make.limit(JD - 3, 19.5) | none
    seen = {"rb": 0.75, "nbad": 1, "novelty": 0.5, "trusted": False, "note": None, "tblid": 2**60}
    history = [make.detection(5, JD - 1, 18.75, isdiffpos="f", **seen), limit | dict.fromkeys(seen),
               make.detection(6, JD - 2, **seen)]  # fmt: skip
    own = make.detection(7, JD, 18.5, rb=0.5, nid=3, objectidps1=141721694137423632,
                         ssnamenr="null", novelty=0.25, trusted=True, note="a")  # fmt: skip
    packet = make.packet(own, history, fp_hists=[forced, {**forced, "jd": JD - 4}])
    return packet | {"publisher": "somebody"}


def ztf_columns() -> OwnColumns:
    """Return columns of every type, of the survey's schema and of what it does not have."""
    types = {"rb": "float", "nbad": "int", "novelty": "double", "trusted": "boolean",
             "note": "string", "tblid": "bigint"}  # fmt: skip
    said = {name: {"from": name, "type": type_, "comment": "c"} for name, type_ in types.items()}
    alerts = {f"my_{name}": column | {"from": f"candidate.{name}"} for name, column in said.items()}
    alerts["who"] = {"from": "publisher", "type": "string", "comment": "c"}
    return OwnColumns.model_validate({"alerts": alerts, "points": said})


def lsst_packet() -> Body:
    def source(number: int, mjd: float, flux: float = 1000.0) -> Body:
        return {"diaSourceId": number, "diaObjectId": 77, "midpointMjdTai": mjd, "band": "r",
                "ra": 10.0, "dec": -20.0, "psfFlux": flux, "psfFluxErr": 50.0, "detector": 94,
                "snr": 20.0, "psfFlux_flag": False, "timeWithdrawnMjdTai": None,
                "ssObjectId": None, "reliability": 0.75, "isDipole": False}  # fmt: skip

    forced = {"diaForcedSourceId": 5, "diaObjectId": 77, "midpointMjdTai": 61000.25, "band": "g",
              "psfFlux": -30.0, "psfFluxErr": 10.0, "detector": 3, "visit": 7,
              "timeWithdrawnMjdTai": None}  # fmt: skip
    return {
        "diaSourceId": 3,
        "diaSource": source(3, 61002.5),
        "prvDiaSources": [source(2, 61001.5, -500.0), source(1, 61000.5)],
        "prvDiaForcedSources": [forced, {**forced, "midpointMjdTai": 61001.25}],
        "prvDiaNondetectionLimits": [{"midpointMjdTai": 60999.5, "band": "r", "diaNoise": 100.0}],
        "diaObject": {"diaObjectId": 77, "nDiaSources": 3},
    }


def avro_members(packet: Body, seed: int, count: int) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return members by name, and their changes: every tenth is as it was, one in twenty nested."""
    draw = random.Random(seed)
    loose = fastavro.parse_schema(odd.loosened(packet))
    scalar = odd.changes(packet, (*odd.SCALARS, odd.GONE), seed, count)
    nested = odd.changes(packet, (*odd.NESTED, *odd.SCALARS, odd.GONE), seed + 1, count)
    members, changed = {}, {}
    for i in range(count):
        name = f"{i}.avro"
        change = next(nested if i % 20 == 4 else scalar)
        is_own = i % 20 == 4 or not change.is_scalar()
        schema = odd.exact(change.packet, draw) if is_own else loose
        members[name] = odd.avro(change.packet, schema)
        changed[name] = change
        if i % 10 == 0:
            members[f"good-{i}.avro"] = odd.avro(packet, loose)
    return members, changed


def read(reader: Callable[[Iterable[str]], Any], paths: Iterable[Path]) -> Rows:
    return [row for batch in reader([str(p) for p in paths]) for row in batch.to_pylist()]


def in_order(rows: Rows) -> list[str]:
    return sorted(repr(row) for row in rows)


def without(row: Row, *names: str) -> str:
    return repr({k: v for k, v in row.items() if k not in ("file", "member", *names)})


def check_point(point: Row) -> None:
    """Hold that a point is one that can be."""
    assert 2400000.5 < point["jd"] < 2500000.5
    assert point["band"]
    assert point["programid"] is not None
    if point["kind"] == "upper_limit":
        assert 0 <= point["limit_mag"] < 40
        assert point["flux"] is None
        return
    if point["limit_mag"] is not None:
        assert 0 < point["limit_mag"] < 40
    if point["procstatus"] == "withdrawn":
        assert point["mag"] is point["flux"] is point["sign"] is None
        return
    if point["kind"] == "detection":
        assert point["datapoint_id"] > 0
        assert point["sign"] in (1, -1)
        assert 0 < point["mag"] < 40
        assert point["ra"] is None or 0 <= point["ra"] <= 360
        assert point["dec"] is None or -90 <= point["dec"] <= 90
    if point["flux"] is not None:
        brightest = 10 ** (0.4 * point["zp"]) * (1 + 1e-9)
        assert 0 < abs(point["flux"]) <= brightest or point["kind"] == "forced"
        assert math.copysign(1, point["flux"]) == point["sign"] or point["flux"] == 0
        for name in ("flux", "fluxerr"):
            assert point[name] is None or abs(point[name]) <= brightest


def check_rows(rows: Rows, names: Iterable[str], like: Row) -> dict[str, list[Row]]:
    """Hold what is true of all: a row a member, points that can be, neighbours as they are alone.

    Returns the rows of each member, its own first.
    """
    found: dict[str, list[Row]] = collections.defaultdict(list)
    for row in sorted(rows, key=lambda r: r["row"] == "entry"):
        if row["row"] in ("packet", "bad", "entry"):
            found[row["member"]].append(row)
    assert set(found) == set(names)
    for member, (own, *more) in found.items():
        assert own["row"] in ("packet", "bad"), member
        assert [r["row"] for r in more] in ([], ["entry"]), member
        assert own["row"] == "packet" or not more, member
        for row in (own, *more):
            if row["row"] != "packet":
                assert row["reason"] in ("bad_value", "wrong_schema", "bad_entry", "too_large"), row
                assert row["detail"], member
                assert len(row["sha256"]) == 64
        for point in (*(own["points"] or ()), *(own["forced"] or ())):
            check_point(point)
        if member.startswith("good"):
            assert not more
            assert without(own) == without(like)
    return found


# Fields of an entry that say that it is none: no limit no information, no id no detection.
_SAY_NOTHING = {"diffmaglim", "candid", "psfFlux", "diaSourceId"}
# Fields by which an entry may be another one that is there as well.
_NAME = {"candid", "diaSourceId", "jd", "rcid", "pid", "midpointMjdTai", "field", "fid", "band",
         "detector"}  # fmt: skip


def silent_losses(found: dict[str, list[Row]], changed: dict[str, Any], like: Row) -> list[Any]:
    """Return changes after which an entry is not there, and nothing says so."""
    lost = []
    for member, change in changed.items():
        own, *more = found[member]
        if own["row"] != "packet" or more or len(change.at) > 1:
            continue
        if "sources_without_flux" in (own["own"] or ""):
            continue
        ((path, value),) = change.at
        fewer = len(own["points"]) + len(own["forced"]) < len(like["points"]) + len(like["forced"])
        is_no_list = len(path) == 1 and (value is odd.GONE or value is None or value != value)
        is_empty = len(path) == 1 and value == []
        last = path[-1]
        if fewer and not is_no_list and not is_empty and last not in _SAY_NOTHING | _NAME:
            lost.append(change.at)
    return lost


def fits(value: Any, name: str) -> tuple[Any, bool]:
    """Return what a declared column holds of a value, and whether it is told that it cannot."""
    if value is None or value is odd.GONE or (isinstance(value, float) and math.isnan(value)):
        return None, False
    kind = {"trusted": bool, "note": str, "novelty": float}[name]
    if name == "trusted" and not isinstance(value, str | bytes | list | dict) and value in (0, 1):
        return bool(value), False
    if name == "novelty" and type(value) in (int, float):
        return float(value), False
    return (value, False) if type(value) is kind is str else (None, True)


def check_columns(found: dict[str, list[Row]], changed: dict[str, Any]) -> None:
    """Hold that a value which a declared column cannot hold is null, that alone, and reported."""
    reported = 0
    for member, change in changed.items():
        own, *more = found[member]
        ((path, value), *others) = change.at
        if others or path[0] != "candidate" or path[-1] not in ("trusted", "note", "novelty"):
            continue
        if own["row"] == "bad":
            assert value == odd.BROKEN  # which is no text of any field
            continue
        held, is_bad = fits(value, path[-1])
        assert own["own_columns"][f"my_{path[-1]}"] == held, change.at
        detail = more[0]["detail"] if more else ""
        both = {"1 value left out: field candidate.", "2 values left out: field candidate."}
        assert any(detail.startswith(words) for words in both) is is_bad, (change.at, detail)
        reported += is_bad
    assert reported > 10


def count(what: str, found: dict[str, list[Row]]) -> None:
    kinds = collections.Counter(rows[0]["row"] for rows in found.values())
    entries = sum(len(rows) > 1 for rows in found.values())
    print(f"{what}: {len(found)} members, {dict(kinds)}, {entries} without entries of theirs")


@pytest.mark.parametrize("part", range(PARTS))
def test_ztf_packets_with_odd_values_cost_themselves_alone_by_both_routes(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    packet = ztf_packet(make)
    members, changed = avro_members(packet, 100 + part, CHANGES)
    path, alone = tmp_path / "night.tar", tmp_path / "alone.tar"
    path.write_bytes(make.tar(members))
    alone.write_bytes(make.tar({"good": members["good-0.avro"]}))
    reader = functools.partial(packets.read_batches, columns=ztf_columns())
    like = read(reader, [alone])[0]
    left: list[str] = []
    plain = packets._decode

    def counted(name: str, data: bytes, schema: str | None) -> Any:
        left.append(name)
        return plain(name, data, schema)

    monkeypatch.setattr(packets, "_decode", counted)
    fast = read(reader, [path])
    monkeypatch.setattr(packets, "_decode", plain)
    monkeypatch.setattr(packets, "PLAIN", True)
    slow = read(reader, [path])
    assert in_order(fast) == in_order(slow)
    assert like["own_columns"]["my_trusted"] is True
    assert [(p["own_columns"] or {}).get("novelty") for p in like["points"]] == [
        0.25,
        0.5,
        None,
        0.5,
    ]
    assert len(like["points"]) == 4
    assert len(like["forced"]) == 2
    found = check_rows(fast, members, like)
    assert silent_losses(found, changed, like) == []
    check_columns(found, changed)
    count(f"ztf_avro, {len(set(left))} one by one", found)
    stored = sum(rows[0]["row"] == "packet" for rows in found.values())
    assert 0.3 < stored / len(members) < 0.95
    assert len(set(left)) < 0.9 * len(members)


@pytest.mark.parametrize("part", range(PARTS))
def test_mapped_packets_with_odd_values_cost_themselves_alone_by_both_routes(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    packet = lsst_packet()
    members, changed = avro_members(packet, 300 + part, CHANGES)
    path, alone = tmp_path / "night.tar", tmp_path / "alone.tar"
    path.write_bytes(make.tar(members))
    alone.write_bytes(make.tar({"good": members["good-0.avro"]}))
    reader = reader_of(load_survey("lsst"))
    like = read(reader, [alone])[0]
    left: list[str] = []
    plain = packets._decode

    def counted(name: str, data: bytes, schema: str | None) -> Any:
        left.append(name)
        return plain(name, data, schema)

    monkeypatch.setattr(packets, "BATCH_ROWS", 600)
    monkeypatch.setattr(packets, "_decode", counted)
    fast = read(reader, [path])
    monkeypatch.setattr(packets, "_decode", plain)
    monkeypatch.setattr(packets, "PLAIN", True)
    assert in_order(fast) == in_order(read(reader, [path]))
    found = check_rows(fast, members, like)
    assert (len(like["points"]), len(like["forced"])) == (4, 2)
    assert silent_losses(found, changed, like) == []
    count(f"packets (Rubin's schema), {len(set(left))} one by one", found)
    stored = sum(rows[0]["row"] == "packet" for rows in found.values())
    assert 0.3 < stored / len(members) < 0.95
    assert len(set(left)) < 0.9 * len(members)


#: Types of columns that writers of Parquet leave, and values that they have beside `odd.SCALARS`.
COLUMNS: tuple[tuple[pa.DataType, tuple[Any, ...]], ...] = (
    (pa.bool_(), ()), (pa.int8(), ()), (pa.int32(), ()), (pa.int64(), ()),
    (pa.uint64(), (2**63, 2**64 - 1)), (pa.float32(), ()), (pa.float64(), ()), (pa.string(), ()),
    (pa.large_string(), ()), (pa.binary(), (b"abc", b"\xff")), (pa.null(), ()),
    (pa.decimal128(38, 2), (decimal.Decimal("1.50"),)), (pa.decimal128(20, 0), ()),
    (pa.timestamp("ns"), (1, 2**62)), (pa.timestamp("us"), (2**62, -(2**62))),
    (pa.date32(), (datetime.date(2018, 7, 1),)), (pa.duration("us"), ()),
    (pa.list_(pa.int64()), ([1, 2], [])), (pa.struct([("x", pa.int64())]), ({"x": 1},)),
    (pa.dictionary(pa.int32(), pa.string()), ("t", "F", "x")),
)  # fmt: skip


def columns_like(packet: Body) -> pa.Schema:
    return pa.Table.from_pylist([packet]).schema


def with_type(schema: pa.Schema, path: odd.Path, kind: pa.DataType) -> pa.Schema:
    """Return a schema in which one field, of the packet, a record or a list's records, differs."""

    def changed(fields: list[pa.Field], names: list[str]) -> list[pa.Field]:
        return [pa.field(f.name, of(f.type, names[1:]) if f.name == names[0] else f.type)
                for f in fields]  # fmt: skip

    def of(type_: pa.DataType, names: list[str]) -> pa.DataType:
        if not names:
            return kind
        if pa.types.is_list(type_):
            return pa.list_(of(type_.value_type, names))
        return pa.struct(changed(list(type_), names))

    return pa.schema(changed(list(schema), [step for step in path if isinstance(step, str)]))


def as_kind(value: Any, kind: pa.DataType) -> Any:
    """Return a value in the form of a type; None where it has none there."""
    try:
        return pa.scalar(value, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None


def parquet_files(packet: Body, folder: Path, most: int, seed: int) -> tuple[list[Path], int]:
    """Write a file for each field and type: a row for each value, and files of good packets."""
    folder.mkdir()
    plan = [(path, *kind) for path in odd.paths(packet) for kind in COLUMNS]
    random.Random(seed).shuffle(plan)
    schema = columns_like(packet)
    files, rows = [], 0
    for i, (path, kind, more) in enumerate(plan):
        if rows >= most:
            break
        if isinstance(path[-1], int):
            continue
        values = [v for v in (*more, *odd.SCALARS) if as_kind(v, kind) is not None] or [None]
        random.Random(f"{seed} {i}").shuffle(values)
        bodies = []
        for value in values[:12]:
            body = copy.deepcopy(packet)
            # the others of the list keep what they have, where the type has a form of it
            for j in range(len(body[path[0]])) if len(path) == 3 else ():
                was = body[path[0]][j].get(path[2])
                body[path[0]][j][path[2]] = was if as_kind(was, kind) is not None else None
            odd._put(body, path, value)
            bodies.append(body)
        name = folder / f"{i:04d}-{'.'.join(map(str, path))}-{kind}.parquet".replace(" ", "")
        try:
            table = pa.Table.from_pylist(bodies, with_type(schema, path, kind))
            parquet.write_table(table, name)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            name.unlink(missing_ok=True)
            continue  # no writer can leave that
        files.append(name)
        rows += len(bodies)
        if i % 10 == 0:
            good = folder / f"{i:04d}-good.parquet"
            parquet.write_table(pa.Table.from_pylist([packet], schema), good)
            files.append(good)
    return files, rows


@pytest.mark.parametrize("part", range(PARTS))
def test_parquet_alerts_of_odd_types_cost_themselves_alone(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    packet = ztf_packet(make)
    files, changed = parquet_files(packet, tmp_path / "many", CHANGES, 7 + part)
    reader = reader_of(load_survey("ztf_parquet"))
    rows = read(reader, files)
    monkeypatch.setattr(readers, "BATCH_ROWS", 60)
    assert in_order(read(reader, files)) == in_order(rows)
    assert not [row for row in rows if row["row"] == "broken"]
    like = next(row for row in rows if row["file"].endswith("good.parquet"))
    assert (len(like["points"]), len(like["forced"])) == (4, 2)
    names = []
    for row in rows:
        member, row["member"] = row["member"], f"{Path(row['file']).stem}#{row['member']}"
        if "good" in row["file"]:
            row["member"] = f"good-{row['member']}"
        if member:
            names.append(row["member"])
    ends = [row["seen"] for row in rows if row["row"] == "end"]
    found = check_rows([r for r in rows if r["row"] != "end"], names, like)
    assert sum(ends) == len(found)
    assert len(found) >= changed
    assert changed >= CHANGES
    count("ztf_parquet", found)
    stored = sum(rows[0]["row"] == "packet" for rows in found.values())
    assert 0.2 < stored / len(found) < 0.95
