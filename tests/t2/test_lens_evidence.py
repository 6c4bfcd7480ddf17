"""The unit that weighs lensed against normal supernovae."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ampel_spark.errors import ConfigError
from ampel_spark.job.configuration.load import load_job
from ampel_spark.t2 import LightCurve, LightCurveBatch, Refusal
from ampel_spark.t2.registry import build
from ampel_spark.t2.unit import MISSING_DEPENDENCY, MISSING_INFO
from ampel_spark.t2.units.lens_evidence import (
    NO_SIGNAL,
    OUT_OF_RANGE,
    TOO_FEW_POINTS,
    LensEvidence,
)
from tests.conftest import PROJECT
from tests.t2.supernovae import injected, truth

REDSHIFT = {"unit": "redshift_digest", "column": "ampel_z", "sigma_column": "group_z_precision"}


def unit(**config: Any) -> LensEvidence:
    made = build("lens_evidence", {"redshift": REDSHIFT} | config, Path())
    assert isinstance(made, LensEvidence)
    return made


def digest(z: float | None, sigma: float = 0.001) -> dict[str, Any]:
    return {"redshift_digest": {"ampel_z": z, "group_z_precision": sigma}}


def lensed(z: float = 0.4, lens: float | None = 0.2, **more: Any) -> LightCurve:
    """A supernova magnified by three magnitudes."""
    true = truth(z=z)
    true.set(x0=true.get("x0") * 10.0**1.2)
    return injected(true, results=digest(lens), **more)


def test_a_magnified_supernova_outranks_a_normal_one_and_the_prior_stands_beside() -> None:
    far, near = lensed(), injected(truth(z=0.1), results=digest(0.1))
    columns = unit().process_batch(LightCurveBatch.of([far, near]))
    score, bayes = columns["score"], columns["ln_bayes"]
    assert bayes[0] > 10 > 0 > bayes[1]
    assert score[0] > score[1]
    assert columns["expected"].tolist() == [3.4, 3.4]
    others = np.logaddexp(columns["ln_normal"] + math.log(0.7), columns["ln_other"] + math.log(0.3))
    assert score == pytest.approx(columns["ln_lensed"] + math.log(3.4 / (1e5 - 3.4)) - others)
    assert columns["z_lensed"][0] == pytest.approx(0.4, abs=0.06)
    alone = unit().process(far)
    for name, values in columns.items():
        if name not in ("status", "message", "n_points"):
            assert alone[name] == values[0] or math.isnan(values[0]), name


@pytest.mark.parametrize(
    ("curve", "status", "message"),
    [
        (lensed(lens=None), MISSING_INFO, "no redshift in redshift_digest.ampel_z"),
        (lensed(lens=1.05), OUT_OF_RANGE, "redshift 1.05: z_max is 1.1"),
        (lensed().where(np.arange(3)), TOO_FEW_POINTS, "3 points to fit, 5 needed"),
        (lensed(fluxerr=1e9), NO_SIGNAL, "no point above S/N 5"),
        (injected(truth()), MISSING_DEPENDENCY, "no result of redshift_digest"),
        (lensed(band="ztfi"), TOO_FEW_POINTS, "0 points to fit"),
    ],
)
def test_what_cannot_be_said_is_refused_with_its_reason(
    curve: LightCurve, status: int, message: str
) -> None:
    with pytest.raises(Refusal, match=message) as refused:
        unit(bands=["ztfg", "ztfr"]).process(curve)
    assert refused.value.status == status


def test_points_far_from_the_maximum_are_left_out() -> None:
    curve = lensed()
    late = {k: np.append(v, v[-1:]) for k, v in curve.points.items()}
    late["jd"][-1] += 300.0
    more = LightCurve("", 1, "SN", late, curve.results)
    assert unit().process(more)["ln_lensed"] == unit().process(curve)["ln_lensed"]


def test_the_job_of_the_search_asks_for_nothing_that_is_not_there() -> None:
    job = load_job(PROJECT / "jobs" / "lensed_sn.yml")
    assert job.name == "lensed_sn"


def test_parameters_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="no such SALT model"):
        unit(model="hsiao/3.0")
    with pytest.raises(ConfigError, match="share between 0 and 1"):
        unit(images=[[20.0, 1.5]])
    with pytest.raises(ConfigError, match="leave out fit and otherwise"):
        unit(redshift={"fit": [0.1, 0.2]}).files()
