"""Sets of variations: folders of models, and zero points from their covariance."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ampel_spark.errors import ConfigError
from ampel_spark.job.configuration.model import VariationEntry
from ampel_spark.job.configuration.variations import expanded

COVARIANCE = np.array([[1.0, 0.5, 0.0], [0.5, 2.0, 0.1], [0.0, 0.1, 0.7]]) * 1e-5
BANDS = ["ZTFg", "ztfr", "ztfi"]
UNIT: Any = SimpleNamespace(
    name="salt_fit",
    unit=SimpleNamespace(bands=("ztfg", "ztfr"), zero_points={"ztfg": 0.1}),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.savez(tmp_path / "zp.npz", bands=BANDS, covariance=COVARIANCE)
    for name in ("T.1", "T.2", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "T.1" / "salt2_template_0.dat").touch()
    (tmp_path / "T.2" / "salt3_template_0.dat.gz").touch()
    return tmp_path


def singles(folder: Path, **given: Any) -> tuple[VariationEntry, ...]:
    return expanded([VariationEntry(name="v", **given)], UNIT, folder)


def shifts(found: tuple[VariationEntry, ...]) -> Any:
    key = "t2.salt_fit.config.zero_points."
    nominal = {"ztfg": 0.1, "ztfr": 0.0}
    return np.array([[v.set[key + band] - nominal[band] for band in nominal] for v in found])


def test_eigenvectors_of_zero_points_make_up_their_covariance(folder: Path) -> None:
    found = singles(folder, zero_points="zp.npz", weight=2.0)
    assert [v.name for v in found] == ["v_01", "v_02", "v_03"]
    assert {v.weight for v in found} == {2.0}
    assert np.allclose(shifts(found).T @ shifts(found), COVARIANCE[:2, :2], rtol=1e-9)


def test_draws_of_zero_points_have_their_covariance_on_average(folder: Path) -> None:
    found = singles(folder, zero_points="zp.npz", draws=4000)
    weighted = shifts(found) * found[0].weight
    assert np.allclose(weighted.T @ weighted, COVARIANCE[:2, :2], atol=1e-6)
    again = singles(folder, zero_points="zp.npz", draws=4000)
    assert found == again
    assert found != singles(folder, zero_points="zp.npz", draws=4000, seed=2)


def test_each_folder_with_a_model_is_a_variation(folder: Path) -> None:
    found = singles(folder, models="*", set={"t2.salt_fit.config.min_points": 3})
    key = "t2.salt_fit.config.model"
    assert {v.name: v.set[key] for v in found} == {
        "v_T_1": f"salt2@{folder / 'T.1'}",
        "v_T_2": f"salt3@{folder / 'T.2'}",
    }
    assert all(v.set["t2.salt_fit.config.min_points"] == 3 for v in found)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"models": "no*"}, "no folder .*no.* has a SALT model"),
        ({"zero_points": "absent.npz"}, "absent.npz cannot be read"),
        ({"zero_points": "other.npz"}, "none of the bands ztfg, ztfr"),
        ({"zero_points": "negative.npz"}, "is no covariance"),
    ],
)
def test_a_set_that_is_none_is_refused(given: dict[str, Any], message: str, folder: Path) -> None:
    np.savez(folder / "other.npz", bands=["sdssu"], covariance=[[1.0]])
    np.savez(folder / "negative.npz", bands=["ztfg", "ztfr"], covariance=[[1.0, 2], [2, 1.0]])
    with pytest.raises(ConfigError, match=message):
        singles(folder, **given)
