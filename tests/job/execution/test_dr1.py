"""The job of ZTF's first supernova release gives the release's own parameters."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ampel_spark.archive.reading.files import find_files
from ampel_spark.archive.reading.photometry import objects_of, read_photometry
from ampel_spark.archive.reading.readers import name_patterns
from ampel_spark.archive.reading.ztf import POINT_COLUMNS
from ampel_spark.job.configuration.load import load_job
from ampel_spark.lightcurve import FORCED, POINT_FIELDS, LightCurve, LightCurveBatch

PROJECT = Path(__file__).resolve().parents[3]
NAMES = [name for name, _ in POINT_COLUMNS]


def _light_curve(packet: Any) -> LightCurve:
    rows = [dict(zip(NAMES, p, strict=True)) for p in packet.forced]
    given = ("datapoint_id", "jd", "band", "sign", "flux", "fluxerr", "zp", "zpsys")
    columns = {k: [r[k] for r in rows] for k in POINT_FIELDS if k in given}
    return LightCurve.of(name=packet.name, stock=packet.stock, kind=FORCED, **columns)


def test_the_release_is_reproduced(
    shared_data: Path, packed_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """t0, x1 and c of the fits agree with the published ones to a tenth of their errors."""
    monkeypatch.setenv("SNCOSMO_DATA_DIR", str(packed_data / "sncosmo_data"))
    release = shared_data / "ztf_snia_dr1_open"
    parameters = release / "salt2_params.csv"
    job = load_job(
        PROJECT / "jobs" / "ztf_snia_dr1.yml",
        [f"t2.0.config.file={parameters}"],
        [str(release / "lightcurves")],
    )
    curves = []
    for file in find_files(job.archive, name_patterns(job.survey)):
        (packet,), _ = objects_of(read_photometry(str(file), job.survey), job.survey)
        curves.append(_light_curve(packet))
    batch = LightCurveBatch.of(curves)
    table, fit = (step.unit for step in job.units)
    found = table.process_batch(batch) or {}
    tied = {"release": np.array(pa.table(found).to_pylist(), object)}
    batch = LightCurveBatch(
        batch.state_id, batch.stock, batch.name, batch.offsets, batch.points, tied
    )
    results = fit.process_batch(batch) or {}

    with parameters.open() as stream:
        published = {row["ztfname"]: row for row in csv.DictReader(stream)}
    close = 0
    for i, name in enumerate(batch.name):
        theirs = {k: float(published[name][k]) for k in ("t0", "x1", "c")}
        errors = {k: float(published[name][f"{k}_err"]) for k in theirs}
        ours = {k: pa.array(results[k]).to_pylist()[i] for k in theirs}
        close += all(
            v is not None and abs(v - theirs[k]) < 0.1 * errors[k] for k, v in ours.items()
        )
    assert (len(batch), close >= 53) == (56, True)
