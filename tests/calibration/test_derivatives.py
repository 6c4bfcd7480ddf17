"""Published supernovae under the releases of conf: known shifts of distance, brightness, colour.

The numbers are medians of independent refits with sncosmo, one for each variation.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sncosmo

from ampel_spark.archive.ids import stock_of
from ampel_spark.calibration.apply import apply
from ampel_spark.calibration.release import RAW, Release
from ampel_spark.job.configuration.load import load_calibration
from ampel_spark.lightcurve import FORCED, LightCurve, LightCurveBatch
from ampel_spark.salt import FitOptions, LightCurves, SaltFitter
from ampel_spark.t1.photometry import canonical

pytestmark = [pytest.mark.slow, pytest.mark.real_data]

ALPHA, BETA = 0.16, 3.1
OPTIONS = FitOptions(
    model_covariance=True,
    snr_cut=3.0,
    phase_range=(-20.0, 50.0),
    phase_frame="observer",
    phase_iterative=False,
    fractional_error_floor=0.02,
    bounds={"x1": (-20.0, 20.0), "c": (-5.0, 5.0)},
)


class Sample:
    """The open supernovae of ZTF's release, fitted as there, under any calibration."""

    def __init__(self, folder: Path, models: Path) -> None:
        with (folder / "salt2_params.csv").open() as lines:
            self.rows = list(csv.DictReader(lines))
        curves = []
        for row in self.rows:
            with (folder / "lightcurves" / f"{row['ztfname']}.csv").open() as lines:
                points = [p for p in csv.DictReader(lines) if p["band"] in ("p48g", "p48r")]
            number = {k: [float(p[k]) for p in points] for k in ("time", "flux", "flux_err", "zp")}
            curves.append(LightCurve.of(
                stock=stock_of(row["ztfname"]), jd=number["time"], flux=number["flux"],
                fluxerr=number["flux_err"], zp=number["zp"], kind=FORCED,
                band=["ztf" + p["band"][-1] for p in points],
                datapoint_id=-np.arange(1, len(points) + 1),
            ))  # fmt: skip
        self.batch = LightCurveBatch.of(curves)
        source = sncosmo.SALT2Source(models / "sncosmo_data/models/salt2/salt2-4", name="salt2")
        self.fitter = SaltFitter(source, ("ztfg", "ztfr"), z_range=(0.0, 0.2), dust_law="CCM89")
        self.nominal = self.fit(RAW)
        x1, c = self.nominal["x1"], self.nominal["c"]
        self.used = (self.of("z") > 0.015) & (np.abs(x1) < 3) & (np.abs(c) < 0.3)
        # and well measured: a median over 44 is known to a few tenths of a mmag
        self.used &= (self.of("x1_err") < 1) & (self.of("c_err") < 0.1)

    def of(self, name: str) -> Any:
        return np.array([float(row[name]) for row in self.rows])

    def fit(self, release: Release) -> dict[str, Any]:
        batch = self.batch
        survey = np.full(len(batch), "ztf", object)
        points = canonical(apply(release, batch.points, batch.index(), survey, batch.stock).points)
        curves = LightCurves(
            batch.offsets, points["jd"], points["flux"], points["fluxerr"],
            self.fitter.band_index(points["band"]), points["zp"],
        )  # fmt: skip
        fitted = self.fitter.fit(
            curves, z=self.of("z"), mwebv=self.of("MWebv"), phase_reference=self.of("t0"),
            options=OPTIONS,
        )  # fmt: skip
        made = {name: fitted.value(name) for name in ("x0", "x1", "c")}
        m_b = -2.5 * np.log10(made["x0"])
        return made | {"mB": m_b, "mu": m_b + ALPHA * made["x1"] - BETA * made["c"]}

    def medians(self, name: str) -> tuple[float, float, float]:
        """Return the median shifts of mu and m_B [mmag] and of c [1e-3]."""
        found = self.fit(load_calibration(name))
        return tuple(
            1e3 * float(np.median((found[k] - self.nominal[k])[self.used]))
            for k in ("mu", "mB", "c")
        )  # type: ignore[return-value]


@pytest.fixture(scope="module")
def sample(shared_data: Path, packed_data: Path) -> Sample:
    return Sample(shared_data / "ztf_snia_dr1_open", packed_data)


@pytest.mark.parametrize(
    ("release", "mu", "m_b", "c"),
    [
        ("zp_g_10mmag", -13.8, 11.4, 8.05),
        ("zp_r_10mmag", 23.8, -1.4, -8.06),
        ("zp_gr_10mmag", 10.0, 10.0, 0.0),
        ("calspec_slope", -2.2, 0.7, 0.9),
        ("nonlinearity_10mmag", -2.3, 6.3, -2.2),
    ],
)
def test_shifts_are_those_of_independent_refits(
    sample: Sample, release: str, mu: float, m_b: float, c: float
) -> None:
    assert sample.used.sum() == 44
    found = sample.medians(release)
    assert found == (
        pytest.approx(mu, abs=0.5), pytest.approx(m_b, abs=0.15), pytest.approx(c, abs=0.1),
    )  # fmt: skip


def test_what_is_later_than_any_point_of_the_fits_moves_nothing(sample: Sample) -> None:
    assert sample.medians("faint_end_2019_11") == (0.0, 0.0, 0.0)
