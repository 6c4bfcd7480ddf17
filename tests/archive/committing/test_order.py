"""No order, chunking or repetition changes what the lake holds, and time travel is exact."""

from __future__ import annotations

import gzip
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from ampel_spark.archive.committing.chunks import chunks
from ampel_spark.archive.committing.ingest import ingest
from ampel_spark.archive.reading.files import ArchiveFile
from ampel_spark.archive.reading.packets import read_batches
from ampel_spark.job.configuration.load import load_survey
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.tables import INCOMPARABLE
from ampel_spark.lightcurve import POINT_FIELDS
from ampel_spark.t1.assemble import KIND_CODES, assemble
from ampel_spark.t1.states import Wanted, light_curves, requests, visible_points
from tests.archive.conftest import RATED_SCHEMA, Make
from tests.archive.twin import JD, objects, revisions

NIGHTS, OBJECTS = 6, 60
TABLES = ("alerts", "datapoints", "sightings")
HEAD = ("survey", "stock", "name")


def content(lake: Lake, name: str, version: int | None = None) -> pa.Table:
    table = lake.arrow(name, version=version)
    columns = [c for c in table.column_names if c not in INCOMPARABLE]
    keys = [c for c in ("stock", "alert_id", "datapoint_id", "revision", "first_alert_jd",
                        "first_alert_id") if c in columns]  # fmt: skip
    return table.select(columns).sort_by([(key, "ascending") for key in keys])


@dataclass(frozen=True)
class Lakes:
    """One archive, read night by night, and in three parts of shuffled packets, twice."""

    files: list[Path]
    nightly: Lake
    shuffled: Lake
    again: list[Path]


@pytest.fixture(scope="module")
def lakes(spark: SparkSession, make: Make, tmp_path_factory: pytest.TempPathFactory) -> Lakes:
    folder = tmp_path_factory.mktemp("order")
    nights = objects(make, 5, OBJECTS, NIGHTS)
    files = [
        make.night(folder / "nights" / f"ztf_public_201807{day:02}.tar.gz", packets, RATED_SCHEMA)
        for day, packets in enumerate(nights, 1)
    ]
    nightly = Lake(spark, folder / "nightly")
    survey = load_survey("ztf")
    ingest(spark, nightly, files, survey, "nightly", out=lambda line: None, nightly=True)
    packets = [packet for night in nights for packet in night]
    random.Random(7).shuffle(packets)
    third = len(packets) // 3
    parts = [packets[:third], packets[third : 2 * third], packets[2 * third :] + packets[:20]]
    again = [
        make.night(folder / "parts" / f"part{i}.tar.gz", part, RATED_SCHEMA)
        for i, part in enumerate(parts)
    ]
    shuffled = Lake(spark, folder / "shuffled")
    for path in again:
        ingest(spark, shuffled, [path], survey, out=lambda line: None)
    return Lakes(files, nightly, shuffled, again)


def test_shuffled_and_split_packets_give_the_same_tables_bit_for_bit(lakes: Lakes) -> None:
    for name in TABLES:
        one, two = content(lakes.nightly, name), content(lakes.shuffled, name)
        assert len(one) > OBJECTS
        assert one.equals(two), name


def test_revisions_are_those_of_the_rule_in_plain_python(lakes: Lakes) -> None:
    packets = [
        row
        for batch in read_batches(str(path) for path in lakes.files)
        for row in batch.to_pylist()
        if row["row"] == "packet"
    ]
    expected = revisions(packets)
    found = {
        (row["stock"], row["datapoint_id"], row["revision"]): row
        for row in lakes.shuffled.arrow("datapoints").to_pylist()
    }
    assert set(found) == set(expected)
    for key, values in expected.items():
        assert {name: found[key][name] for name in values} == values
    # the archive has what makes this hard
    assert max(revision for *_, revision in found) >= 3


def test_columns_of_a_survey_are_those_of_the_first_alert_that_showed_the_values(
    lakes: Lakes,
) -> None:
    columns = load_survey("ztf").columns
    first: dict[tuple[int, int, int], Any] = {}
    batches = list(read_batches((str(path) for path in lakes.files), columns=columns))
    packets = [row for b in batches for row in b.to_pylist() if row["row"] == "packet"]
    for packet in sorted(packets, key=lambda p: (p["jd"], p["alert_id"])):
        for point in (*packet["points"], *packet["forced"]):
            key = (packet["stock"], point["datapoint_id"], point["value_hash"])
            first.setdefault(key, point["own_columns"])
    rows = lakes.shuffled.arrow("datapoints").to_pylist()
    assert len({row["ztf"]["rb"] for row in rows if row["ztf"]}) > NIGHTS
    for row in rows:
        assert row["ztf"] == first[row["stock"], row["datapoint_id"], row["value_hash"]]


def test_as_of_a_night_is_a_lake_that_never_held_later_nights(lakes: Lakes) -> None:
    kinds = ("detection", "upper_limit", "forced")
    alerts, points = (lakes.shuffled.arrow(name) for name in ("alerts", "datapoints"))
    times = [JD + day + 0.99 for day in range(NIGHTS)]
    accepted = alerts.select([*HEAD, "alert_id", "jd"])
    accepted = accepted.append_column("channel", pa.repeat("SN", len(alerts)))
    asked = requests(accepted, Wanted("as_of", times, kinds), None)
    curves = light_curves(asked, visible_points(alerts, points, frozenset({1})), kinds)
    until = dict(zip(asked["request"].to_pylist(), asked["until_jd"].to_pylist(), strict=True))
    made = curves.select(["request", "stock", "state_id", "link"]).to_pylist()
    found = [(until[r["request"]], r["stock"], r["state_id"], r["link"]) for r in made]
    # The lake that was read night by night had never held later ones when a chunk was done.
    marks = lakes.nightly.arrow("archive_files").sort_by("night_first").to_pylist()
    never = [
        (t, *state)
        for t, mark in zip(times, marks, strict=True)
        for state in states(lakes.nightly.arrow("datapoints", version=mark["datapoints_version"]))
    ]
    assert len(never) > NIGHTS // 2 * OBJECTS
    assert sorted(found) == sorted(never)


def states(datapoints: pa.Table) -> list[tuple[int, str, int]]:
    """Return stock, state id and link of every object, from all its datapoints, without Spark."""
    points: dict[int, list[dict[str, Any]]] = {}
    for row in datapoints.to_pylist():
        point = {name: row[name] for name in (*POINT_FIELDS, "revision")}
        point["kind"] = KIND_CODES[row["kind"]]
        if row["kind"] != "forced" or row["flux"] is not None:
            points.setdefault(row["stock"], []).append(point)
    rows = [
        {"request": i, "survey": "ztf", "stock": stock, "name": "any", "points": sorted(
            found, key=lambda p: (p["datapoint_id"], p["revision"]))}
        for i, (stock, found) in enumerate(points.items())
    ]  # fmt: skip
    batch = assemble(pa.RecordBatch.from_pylist(rows))
    return [(r["stock"], r["state_id"], r["link"]) for r in batch.to_pylist()]


def test_every_commit_of_a_chunk_carries_its_run_and_its_nights(lakes: Lakes) -> None:
    for name in ("datapoints", "alerts", "quarantine", "archive_files"):
        told = lakes.nightly.commits(name, 0)
        nights = [tuple(commit["nights"]) for commit in reversed(told)]
        assert [n for i, n in enumerate(nights) if n not in nights[:i]] == [
            (20180700 + day,) for day in range(1, NIGHTS + 1)
        ], name
        assert {commit["run_id"] for commit in told} == {"nightly"}


def test_what_was_killed_after_any_commit_is_taken_back(
    spark: SparkSession, make: Make, lakes: Lakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: content(lakes.nightly, name) for name in TABLES}
    late = tmp_path / "ztf_public_20180711.tar.gz"
    late.write_bytes(
        gzip.compress(
            make.tar(
                {
                    "1.avro": make.avro(
                        make.packet(make.detection(1, JD - 1), [make.limit(JD - 3, 20.0)])
                    )
                }
            )
        )
    )

    def killed(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ampel_spark.archive.committing.ingest._mark", killed)
    with pytest.raises(KeyboardInterrupt):
        ingest(spark, lakes.nightly, [late], run_id="dead", out=lambda line: None)
    assert len(lakes.nightly.arrow("alerts")) == len(before["alerts"]) + 1
    lines: list[str] = []
    ingest(spark, lakes.nightly, lakes.files, out=lines.append)
    assert lines[0] == "ingest: took back chunk dead-0, which was never finished"
    for name in TABLES:
        assert content(lakes.nightly, name).equals(before[name])
    ingest(spark, lakes.nightly, lakes.files, out=lines.append)
    assert sum("took back" in line for line in lines) == 1


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 9)), max_size=12),
    st.integers(1, 30),
    st.booleans(),
)
def test_chunks_never_cut_a_night(
    found: list[tuple[int, int]], chunk_bytes: int, nightly: bool
) -> None:
    files = [
        ArchiveFile(f"/{i}/ztf_201801{night:02}.tar.gz", size, str(i))
        for i, (night, size) in enumerate(found)
    ]
    cut = list(chunks(files, chunk_bytes, nightly))
    assert sorted(file.path for chunk in cut for file in chunk) == sorted(
        file.path for file in files
    )
    nights = [[file.path[-9:-7] for file in chunk] for chunk in cut]
    assert [night for chunk in nights for night in dict.fromkeys(chunk)] == sorted(
        {night for chunk in nights for night in chunk}
    )
    for chunk, its_nights in zip(cut, nights, strict=True):
        one = len(set(its_nights)) == 1
        assert one or (not nightly and sum(file.size for file in chunk) <= chunk_bytes)


@pytest.mark.real_data
def test_the_real_archive_is_stored_whole_in_any_order_and_chunking_and_once(
    spark: SparkSession, tmp_path: Path, shared_data: Path
) -> None:
    folder = shared_data / "ztf_alerts" / "archive"
    whole = Lake(spark, tmp_path / "whole")
    done = ingest(spark, whole, [folder], out=lambda line: None)
    accounts = (done.files, done.packets, done.stored, done.duplicate, done.quarantined)
    assert accounts == (91, 1216, 1216, 0, 0)
    alerts, points = whole.arrow("alerts"), whole.arrow("datapoints")
    assert pc.count_distinct(alerts["stock"]).as_py() == 1144
    kinds = {pair["values"]: pair["counts"] for pair in points["kind"].value_counts().to_pylist()}
    assert kinds == {"detection": 7997, "upper_limit": 15500, "forced": 431}
    # 62 detections are not bit-identical where they are seen again: rounding, not revisions
    assert pc.max(points["revision"]).as_py() == 0

    files = sorted(str(path) for path in folder.glob("*.tar.gz"))
    random.Random(11).shuffle(files)
    lake = Lake(spark, tmp_path / "shuffled")
    for part in (files[:40], files[40:45], files[45:]):
        ingest(spark, lake, part, chunk_bytes=600_000, out=lambda line: None)
    for name in TABLES:
        assert content(lake, name).equals(content(whole, name)), name
    again = ingest(spark, lake, files, out=lambda line: None)
    assert (again.files, again.known, again.stored) == (0, 91, 0)
