"""The grade of a fit, and the doubts that it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ampel_spark.job.execution.outcomes import outcomes, qualities
from ampel_spark.t2 import LightCurve
from ampel_spark.t2.fits.quality import DOUBTS, quality_columns
from ampel_spark.t2.registry import build
from tests.t2.supernovae import injected, truth

BOTH = pytest.mark.parametrize("engine", ["batch", "sncosmo"])


def fitted(curve: LightCurve, **config: Any) -> Mapping[str, Any]:
    settings = {"redshift": 0.06, "model_covariance": False} | config
    return build("salt_fit", settings, Path()).process(curve)


@BOTH
def test_a_fit_of_a_well_sampled_supernova_is_good(engine: str) -> None:
    row = fitted(injected(truth()), engine=engine)
    assert (row["quality"], row["doubts"]) == ("good", [])
    assert row["fitter_status"]


@BOTH
@pytest.mark.parametrize(
    ("light", "config", "quality", "doubts"),
    [
        ({"phases": (3, 40)}, {}, "doubtful", {"no_rise"}),
        ({"phases": (-14, -4)}, {}, "doubtful", {"no_decline"}),
        ({"bands": ["ztfr"]}, {}, "doubtful", {"one_band"}),
        ({"phases": (-14, 40)}, {"bounds": {"x1": [-3, 0.2]}}, "poor", {"at_bound"}),
        ({"phases": (-14, 40)}, {"max_reduced_chisq": 0.01}, "poor", {"poor_chisq"}),
    ],
)
def test_each_doubt_is_named(
    light: dict[str, Any], config: dict[str, Any], quality: str, doubts: set[str], engine: str
) -> None:
    row = fitted(injected(truth(), **light), engine=engine, **config)
    assert row["quality"] == quality
    assert doubts <= {*row["doubts"]} <= {*DOUBTS}


def test_a_light_curve_of_another_kind_of_supernova_is_poor() -> None:
    curve = injected(truth(c=0.05))
    flat = LightCurve.of(
        jd=curve.jd, flux=np.full(30, 1000.0), fluxerr=20.0, band=curve.band, zp=25.0, sign=1
    )
    row = fitted(flat)
    assert row["quality"] == "poor"
    assert "poor_chisq" in row["doubts"]


def test_the_gravest_doubt_makes_the_grade() -> None:
    found = {"at_bound": [False, True, False], "no_rise": [True, True, False]}
    columns = quality_columns({name: np.array(mask) for name, mask in found.items()})
    assert columns["quality"].to_pylist() == ["doubtful", "poor", "good"]
    assert columns["doubts"].to_pylist() == [["no_rise"], ["at_bound", "no_rise"], []]


def test_grades_are_counted_in_a_run(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "status": pa.array([0, 0, 0, 1], pa.int32()),
            "duration_ms": [1.0, 1.0, 1.0, None],
            "quality": ["good", "doubtful", "good", None],
            "doubts": [[], ["no_rise", "one_band"], [], None],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert (
        qualities(outcomes([tmp_path / "a.parquet"]))
        == "2 good, 1 doubtful (no_rise 1, one_band 1)"
    )
    assert qualities({"statuses": {"0": 1}}) == ""
