"""The job of ZTF's first supernova release gives the release's own parameters."""

from __future__ import annotations

import csv
from dataclasses import replace
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


def _fits(shared_data: Path, sets: list[str], every: int = 1) -> tuple[LightCurveBatch, Any]:
    """The light curves of the release, and what the job's last unit makes of them."""
    job = load_job(
        PROJECT / "jobs" / "ztf_snia_dr1.yml",
        sets,
        [str(shared_data / "ztf_snia_dr1_open" / "lightcurves")],
    )
    curves = []
    for file in find_files(job.archive, name_patterns(job.survey))[::every]:
        (packet,), _ = objects_of(read_photometry(str(file), job.survey), job.survey)
        curves.append(_light_curve(packet))
    batch = LightCurveBatch.of(curves)
    results: Any = {}
    for step in job.units:
        results = step.unit.process_batch(batch) or {}
        rows = np.array(pa.table({k: pa.array(v) for k, v in results.items()}).to_pylist(), object)
        batch = replace(batch, results={**batch.results, step.name: rows})
    return batch, results


def test_the_release_is_reproduced(
    shared_data: Path, packed_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """t0, x1 and c of the fits agree with the published ones to a tenth of their errors."""
    monkeypatch.setenv("SNCOSMO_DATA_DIR", str(packed_data / "sncosmo_data"))
    parameters = shared_data / "ztf_snia_dr1_open" / "salt2_params.csv"
    batch, results = _fits(
        shared_data,
        [
            "t2=[{unit: object_table, name: release, config: {file: "
            + str(parameters)
            + ", name: ztfname, append: {z: z, mwebv: MWebv}}}, {unit: salt_fit, config: "
            "{recipe: ztf_dr1, redshift: {unit: release}, dust: {unit: release, column: mwebv}}}]",
        ],
    )

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


def test_a_dust_map_moves_the_fits_by_little(
    shared_data: Path, packed_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the release's own files and a map for E(B-V), colours move by some mmag."""
    monkeypatch.setenv("SNCOSMO_DATA_DIR", str(packed_data / "sncosmo_data"))
    sidecar = (PROJECT / "conf" / "dust" / "sfd_lowres.yml").read_text()
    (tmp_path / "sfd.yml").write_text(
        sidecar.replace("file: ", f"file: {shared_data / 'dust'}/", 1)
    )
    sample = shared_data / "ztf_snia_dr1_open" / "sample_coords.txt"
    files = [f"t2.release.config.file={sample}",
             f"t2.milky_way_dust.config.map={tmp_path / 'sfd.yml'}"]  # fmt: skip
    batch, results = _fits(shared_data, files, 4)
    with (sample.parent / "salt2_params.csv").open() as stream:
        published = {row["ztfname"]: row for row in csv.DictReader(stream)}
    colours, redshifts = (pa.array(results[k]).to_pylist() for k in ("c", "z"))
    shifts = []
    for name, c, z in zip(batch.name, colours, redshifts, strict=True):
        assert z is None or z == pytest.approx(float(published[name]["z"]), abs=1e-4)
        if c is not None:
            shifts.append(c - float(published[name]["c"]))
    assert len(shifts) >= 12
    assert abs(np.median(shifts)) < 0.002
    assert np.median(np.abs(shifts)) < 0.005
