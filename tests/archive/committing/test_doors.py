"""Tables into the lake: accounts close, a re-issue gives revisions, surveys stay apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession

from ampel_spark.archive.committing.ingest import ingest
from ampel_spark.archive.reading.surveys import Survey
from ampel_spark.errors import ArchiveError
from ampel_spark.lake.lake import Lake
from ampel_spark.t0 import All, ChannelFilter
from ampel_spark.t0.judge import judge
from ampel_spark.t1.states import Wanted, light_curves, requests, visible_points

pytestmark = pytest.mark.spark

HEADER = "name,jd,band,flux,error"
TABLE: dict[str, Any] = {
    "object": "name",
    "ids": "ztf",
    "time": "jd",
    "band": {"column": "band", "names": {"g": "ztfg", "r": "ztfr"}},
    "flux": "flux",
    "fluxerr": "error",
    "zp": 25.0,
    "issued": {"path": r"/(\d{4}-\d\d-\d\d)/"},
}


def survey(name: str = "mine", **changes: Any) -> Survey:
    return Survey.model_validate(
        {"name": name, "reader": "photometry", "access": {"ALL": 1}, "photometry": TABLE | changes}
    )


def write(path: Path, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def test_a_re_issued_table_revises_what_it_changes_and_nothing_else(
    spark: SparkSession, lake_path: Path, tmp_path: Path
) -> None:
    a = [f"ZTF18aaaaaab,{2458300.5 + i},{'gr'[i % 2]},{100 + i},2" for i in range(4)]
    first = write(tmp_path / "2020-01-01" / "t.csv", *a, "ZTF19aaaaaaa,2458300.5,g,50,1",
                  "ZTF18aaaaaab,nan,g,1,1")  # fmt: skip
    done = ingest(spark, lake_path, [first], survey(), "one", out=lambda _: None)
    # two objects, and a row that has no time
    assert (done.packets, done.stored, done.duplicate, done.quarantined) == (3, 2, 0, 1)

    # a later issue: one value changed, one by less than a mmag, the last row withdrawn, one added
    b = [a[0].replace("100,2", "110,2"), a[1].replace("101,2", "101.001,2"), a[2],
         "ZTF18aaaaaab,2458299.5,r,7,2"]  # fmt: skip
    second = write(tmp_path / "2021-01-01" / "t.csv", *b, "ZTF19aaaaaaa,2458300.5,g,50,1")
    done = ingest(spark, lake_path, [second.parent], survey(), "two", out=lambda _: None)
    assert (done.packets, done.stored, done.quarantined) == (2, 2, 0)
    # the same file again, renamed, is known
    copy = write(tmp_path / "2020-01-01" / "copy.csv", *first.read_text().splitlines()[1:])
    assert ingest(spark, lake_path, [copy], survey(), out=lambda _: None).known == 1

    lake = Lake(spark, lake_path)
    points = lake.read("datapoints")
    rows = points.orderBy("stock", "jd", "revision").collect()
    found = [(r["jd"] - 2458300, r["band"], r["revision"], r["flux"], r["run_id"]) for r in rows]
    assert found == [
        (0.5, "ztfg", 0, 50.0, "one"),
        (-0.5, "ztfr", 0, 7.0, "two"),
        (0.5, "ztfg", 0, 100.0, "one"),
        (0.5, "ztfg", 1, 110.0, "two"),
        (1.5, "ztfr", 0, 101.0, "one"),
        (2.5, "ztfg", 0, 102.0, "one"),
        (3.5, "ztfr", 0, 103.0, "one"),
    ]

    # what takes everything takes these, though ZTF's columns are null
    decisions = judge(lake.read("alerts"), [ChannelFilter("C", All(), frozenset({1}))])
    assert [r["accepted"] for r in decisions.select("accepted").collect()] == [True] * 4

    # a state sees the newest revision, of its own survey; as of the first issue, the first
    points = lake.arrow("datapoints")
    at = points.column_names.index("survey")
    others = points.set_column(at, "survey", pa.repeat("other", len(points)))
    alerts = lake.arrow("alerts")
    alerts = alerts.append_column("channel", pa.repeat("C", len(alerts)))
    seen = visible_points(alerts, pa.concat_tables([points, others]), frozenset({1}))
    mine = alerts.filter(pc.field("name") == "ZTF18aaaaaab")
    asked = requests(mine, Wanted("as_of", (2458900.0, 2459300.0), ("forced",)), None)
    curves = light_curves(asked, seen, ["forced"]).sort_by("n_forced").to_pylist()
    assert [sorted(c["lc_flux"]) for c in curves] == [
        [100.0, 101.0, 102.0, 103.0],
        [7.0, 101.0, 102.0, 103.0, 110.0],
    ]


def test_settings_that_do_not_fit_commit_nothing(
    spark: SparkSession, lake_path: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "2020-01-01" / "t.csv", "ZTF18aaaaaab,2458300.5,i,1,1")
    with pytest.raises(ArchiveError, match=r"t\.csv: band 'i' in row 1 .*; nothing of this chunk"):
        ingest(spark, lake_path, [path], survey(), out=lambda _: None)
    assert not Lake(spark, lake_path).has("alerts")
