"""Surveys that a settings file alone describes, through all tiers by the names that it declares."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from pyspark.sql import SparkSession

from ampel_spark.interface.lake_view import open_lake
from ampel_spark.job.comparison.compare import compare
from ampel_spark.job.configuration.load import load_job
from ampel_spark.job.execution.run import run_job
from ampel_spark.lake.reading import read
from tests.archive import odd
from tests.archive.conftest import Body, Make
from tests.archive.reading.test_mapping import LS4, ULTRASAT, packet_of_ls4, packet_of_ultrasat

pytestmark = [pytest.mark.spark, pytest.mark.slow]

JOB = """
name: {survey}
survey: {survey}.yml
archive: {archive}
channel: [{{name: SN, access: [{access}]}}]
t0: [{{channel: SN, filter: Conditions, config: {{conditions: ["{condition}"]}}}}]
t1: {{points: [detection, upper_limit, forced]}}
t2: [{{unit: "units.py:Mean", name: mean, config: {{field: {field}}}}}]
t3:
- channel: SN
  select: {select}
  rank: -{rank}
  columns: [mean.value, {rank}]
report: false
"""
UNIT = '''
import numpy as np
from ampel_spark.t2 import Column, Unit

class Mean(Unit):
    """Mean of a column of points."""
    field: str
    columns = (Column("value", "double", "", "mean"), Column("n", "int", "", "points with one"))

    def point_fields(self):
        return ("jd", self.field)

    def process(self, light_curve):
        values = getattr(light_curve, self.field)
        return {"value": np.nanmean(values), "n": np.isfinite(values).sum()}
'''


def ls4(folder: Path) -> dict[str, str]:
    """Write a night in LS4's schema: objects of score 0.3, 0.6 and 0.9."""
    members = {}
    for i, score in enumerate((0.25, 0.625, 0.875)):
        packet = packet_of_ls4(100 + i) | {"objectId": f"LS4_25ab{i}"}
        packet["candidate"]["rb"] = score
        for k, entry in enumerate(packet["prv_candidates"]):
            entry["candid"] = entry["candid"] and 10 * (i + 1) + k
        members[f"{i}.avro"] = odd.avro(packet, odd.exact(packet, random.Random(i)))
    (folder / "night.tar").write_bytes(Make.tar(members))
    (folder / "ls4.yml").write_text(LS4)
    return {"survey": "ls4", "access": "LS4", "archive": "night.tar", "field": "rb",
            "condition": "rb > 0.5 and n_bands >= 2", "rank": "alert.rb",
            "select": "alert.rb > 0.75 and mean.n >= 2"}  # fmt: skip


def ultrasat(folder: Path) -> dict[str, str]:
    """Write alerts in a schema like ULTRASAT's, as Parquet: fluxes, times as text, one list."""
    rows: list[Body] = []
    for i, snr in enumerate((4.0, 8.0, 16.0)):
        packet = copy.deepcopy(packet_of_ultrasat())
        packet |= {"alert_id": 5 + i, "object": {"id": 12 + i, "designation": f"U {i}"}}
        packet["detection"]["snr"] = snr
        rows.append(packet)
    parquet.write_table(pa.Table.from_pylist(rows), folder / "alerts.parquet")
    (folder / "ultrasat.yml").write_text(ULTRASAT)
    return {"survey": "ultrasat", "access": "ULTRASAT", "archive": "alerts.parquet",
            "field": "quality", "condition": "snr > 5", "rank": "alert.snr",
            "select": "mean.value > 0 and alert.snr >= 10"}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "units.py").write_text(UNIT)
    return tmp_path


def run(folder: Path, words: dict[str, str], **changes: str) -> Any:
    path = folder / "job.yml"
    path.write_text(JOB.format(**(words | changes)))
    lines: list[str] = []
    outcome = run_job(load_job(path), folder / "lake", out=lines.append)
    assert outcome.code == 0, lines
    return open_lake(folder / "lake").run("latest")


def test_ls4_goes_through_all_tiers_by_a_file_alone(spark: SparkSession, folder: Path) -> None:
    words = ls4(folder)
    done = run(folder, words)
    decisions = read(folder / "lake", "decisions").to_pylist()
    assert [r["accepted"] for r in sorted(decisions, key=lambda r: r["alert_id"])] == [
        False, True, True
    ]  # fmt: skip
    (state, _) = sorted(read(folder / "lake", "states").to_pylist(), key=lambda r: r["name"])
    assert (state["n_detections"], state["n_upper_limits"]) == (2, 1)
    found = {r["name"]: r for r in done.results("mean").to_pylist()}
    # the limit, too, has a score in this packet
    assert {n: (r["value"], r["n"]) for n, r in found.items()} == {
        "LS4_25ab1": (pytest.approx((0.625 + 0.75 + 0.75) / 3), 3),
        "LS4_25ab2": (pytest.approx((0.875 + 0.75 + 0.75) / 3), 3),
    }
    (candidate,) = done.candidates().to_pylist()
    assert (candidate["name"], candidate["alert_rb"]) == ("LS4_25ab2", 0.875)

    # What is lost by another cut on the alert is found by the comparison, with both values.
    after = run(folder, words, select="alert.rb > 0.9")
    compared = compare(folder / "lake", done.record.run_id, after.record.run_id)
    (change,) = compared.changes.to_dict("records")
    assert (change["change"], change["name"], change["what"]) == (
        "lost", "LS4_25ab2", "alert.rb > 0.9"
    )  # fmt: skip
    assert change["value_b"] == 0.875


def test_a_schema_like_ultrasats_goes_through_all_tiers_by_a_file_alone(
    spark: SparkSession, folder: Path
) -> None:
    done = run(folder, ultrasat(folder))
    states = read(folder / "lake", "states").to_pylist()
    assert [(r["n_detections"], r["n_forced"]) for r in states] == [(1, 1), (1, 1)]
    found = {r["name"]: r for r in done.results("mean").to_pylist()}
    assert {n: (r["value"], r["n"]) for n, r in found.items()} == {
        name: (pytest.approx(0.9, rel=1e-6), 2) for name in ("U 1", "U 2")
    }
    (candidate,) = done.candidates().to_pylist()
    assert (candidate["name"], candidate["alert_snr"]) == ("U 2", 16.0)


def test_a_column_that_was_declared_after_the_alerts_were_read_is_reported(
    spark: SparkSession, folder: Path
) -> None:
    words = ls4(folder)
    begin = LS4.index("columns:")
    early = LS4[:begin] + LS4[begin:].split("  points:")[0].replace("    rb:", "    score:")
    (folder / "ls4.yml").write_text(early)
    run(folder, words, condition="score > 0.5", field="mag", rank="alert.score",
        select="alert.score > 0.75")  # fmt: skip
    (folder / "ls4.yml").write_text(LS4)
    lines: list[str] = []
    path = folder / "job.yml"
    path.write_text(
        JOB.format(**(words | {"condition": "rb > 0.5 or missing", "select": "jd_first > 0"}))
    )
    assert run_job(load_job(path), folder / "lake", out=lines.append).code == 0
    said = [line for line in lines if line.startswith("warning: ")]
    cure = "read before the survey's file declared it: ingest their files into a new lake"
    assert said[0].startswith(f"warning: rb: 3 of 3 alerts have none, 3 of them {cure}")
    assert said[1].startswith("warning: rb of points: 9 of 9 rows have none, 9 of them")
    found = open_lake(folder / "lake").run("latest").candidates().to_pylist()
    assert [r.get("alert_rb") for r in found] == [None] * 3
