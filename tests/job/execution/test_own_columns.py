"""Columns that a survey declares, from the packet to the candidates: by name in every tier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from ampel_spark.archive.committing.ingest import ingest
from ampel_spark.errors import ConfigError
from ampel_spark.interface.lake_view import open_lake
from ampel_spark.job.configuration.load import load_job, load_survey
from ampel_spark.job.execution.run import run_job
from ampel_spark.lake.lake import Lake
from ampel_spark.lake.reading import read
from tests.archive import odd
from tests.archive.conftest import Body, Make

JOB = """
name: reliable
survey: lsst
archive: night.tar
channel: [{name: SN, access: [LSST]}]
t0: [{channel: SN, filter: Conditions, config: {conditions: [reliability > 0.5, lsst.snr >= 10]}}]
t2: [{unit: "units.py:Significance"}]
t3: [{channel: SN, select: significance.total > 30, columns: [significance.total]}]
report: false
"""
UNIT = '''
import numpy as np
from ampel_spark.t2 import Column, Unit

class Significance(Unit):
    """Signal to noise of all points."""
    columns = (
        Column("total", "double", "", "sum of snr"),
        Column("unknown", "int", "", "points without"),
        Column("visits", "array<bigint>", "", "visits of the points"),
    )
    def point_fields(self):
        return ("jd", "snr", "visit")
    def process(self, light_curve):
        snr = light_curve.snr
        return {"total": np.nansum(snr), "unknown": np.isnan(snr).sum(),
                "visits": light_curve.visit}
'''


MAKE = Make()


def packet(stock: int, reliability: float | None, snr: float) -> Body:
    def source(number: int, mjd: float, ratio: float | None) -> Body:
        return {"diaSourceId": 10 * stock + number, "diaObjectId": stock, "midpointMjdTai": mjd,
                "band": "r", "ra": 10.0, "dec": -20.0, "psfFlux": 1000.0, "psfFluxErr": 50.0,
                "detector": 94, "snr": ratio, "psfFlux_flag": False,
                "visit": 2**60 + number}  # fmt: skip

    own = source(3, 61002.5, snr) | {"reliability": reliability}
    history = [source(2, 61001.5, 15.0), source(1, 61000.5, None)]
    return {"alertId": 3, "diaSource": own, "prvDiaSources": history, "diaObject": {"x": 1.0}}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    packets = [packet(77, 0.9, 20.0), packet(78, 0.4, 20.0), packet(79, None, 20.0),
               packet(80, 0.9, 5.0), packet(81, 0.75, 11.0)]  # fmt: skip
    members = {f"{i}.avro": odd.avro(p, odd.loosened(p)) for i, p in enumerate(packets)}
    (tmp_path / "night.tar").write_bytes(MAKE.tar(members))
    (tmp_path / "units.py").write_text(UNIT)
    path = tmp_path / "job.yml"
    path.write_text(JOB)
    return path


def told(path: Path, lake: Path) -> list[str]:
    lines: list[str] = []
    outcome = run_job(load_job(path), lake, out=lines.append)
    assert outcome.code == 0, lines
    return lines


def test_columns_of_a_survey_are_named_in_conditions_units_and_their_results_are_kept(
    spark: SparkSession, job: Path, tmp_path: Path
) -> None:
    where = tmp_path / "lake"
    told(job, where)
    lake = open_lake(where)
    run = lake.run("latest")
    cuts = {r["stock"]: r["cut"] for r in read(where, "decisions").to_pylist()}
    unreliable, weak = "reliability > 0.5", "lsst.snr >= 10"
    assert cuts == {77: None, 78: unreliable, 79: unreliable, 80: weak, 81: None}
    found = {r["stock"]: r for r in run.results("significance").to_pylist()}
    assert {k: (r["total"], r["unknown"]) for k, r in found.items()} == {77: (35, 1), 81: (26, 1)}
    assert found[77]["visits"] == [2**60 + 1, 2**60 + 2, 2**60 + 3]
    assert [r["stock"] for r in run.candidates().to_pylist()] == [77]
    curve = lake.object("77").light_curve()
    assert curve.snr[1:].tolist() == [15.0, 20.0]
    assert "reliability" in curve.to_pandas()

    # Another survey's columns come beside, and nothing is computed again.
    night = MAKE.night(tmp_path / "ztf.tar.gz", [MAKE.packet(MAKE.detection(7, 2458300.5, rb=0.5))])
    ingest(spark, Lake(spark, where), [night], load_survey("ztf"), out=lambda _: None)
    points = {r["datapoint_id"]: r for r in read(where, "datapoints").to_pylist()}
    assert (points[7]["ztf"]["rb"], points[7]["lsst"]) == (0.5, None)
    assert (points[773]["lsst"]["snr"], points[773]["ztf"]) == (20.0, None)
    assert any("2 present, 0 to compute" in line for line in told(job, where))


def test_what_the_survey_does_not_declare_is_refused_with_the_nearest_name(
    job: Path, tmp_path: Path
) -> None:
    units = tmp_path / "units.py"
    units.write_text(UNIT.replace('"snr", "visit"', '"snrr", "visit"'))
    job.write_text(JOB.replace("reliability", "reliabilty"))
    with pytest.raises(ConfigError) as error:
        load_job(job)
    said: Any = str(error.value)
    assert "no column 'reliabilty'; did you mean 'reliability'?" in said
    assert "the field 'snrr' of points, which survey lsst does not declare" in said
    assert "did you mean 'snr'?" in said
