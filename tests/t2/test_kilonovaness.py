"""kilonovaness: AMPEL's own points, its faults where they are asked for, and what gave which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ampel_spark.errors import ConfigError
from ampel_spark.lightcurve import LightCurve, LightCurveBatch
from ampel_spark.t2.registry import build

TAKE = {
    "z": "host.z", "host_arcsec": "host.distance", "chisq": "fit.chisq", "ndof": "fit.ndof",
    "fit_mag": "fit.mag", "fit_absmag": "fit.absmag", "level": "gw.level",
    "distance_pull": "gw.distance_pull", "falls": "features.fall", "peaked": "features.peaked",
}  # fmt: skip
PARTS = {
    "redshift": ("redshift", "host_distance", "host_kpc"),
    "fit": ("fit_quality", "fit_magnitude", "fit_absmag"),
    "map": ("map_level",), "distance": ("map_distance",), "absmag": ("absmag",),
}  # fmt: skip


def score(table: str = "kilonova", mag: float = 20.0, **tied: dict[str, Any]) -> dict[str, Any]:
    unit = build("kilonovaness", {"table": table, "take": TAKE}, Path())
    curve = LightCurve.of("A", jd=[1.0, 2.0], mag=[21.0, mag], results=tied)
    return dict(unit.process(curve))


def part(row: dict[str, Any], name: str) -> float:
    points = dict(zip(row["terms"], row["points"], strict=True))
    return sum(points[term] or 0.0 for term in PARTS[name])


@pytest.mark.parametrize("table", ["kilonova", "kilonova_ampel"])
def test_the_points_are_those_of_ampels_own_code(table: str) -> None:
    row = score(table, host={"z": 0.03, "distance": 10.0})
    assert part(row, "redshift") == 3
    assert row["host_kpc"] == pytest.approx(6.2056, abs=1e-4)
    assert part(score(table, host={"z": 0.08, "distance": 0.5}), "redshift") == 1
    assert part(score(table), "redshift") == 0
    for pull, points in ((0.790, 5), (-2.9, 5), (11.974, 0)):
        assert part(score(table, gw={"distance_pull": pull, "level": 0.5}), "distance") == points
    for level, points in ((0.5, 3), (0.68, 3), (0.9, 1), (0.95, 1), (0.96, 0)):
        assert part(score(table, gw={"level": level, "distance_pull": None}), "map") == points
    for chisq, ndof, absmag, mag, points in (
        (10, 5, -15.4, 20, 9), (100, 5, -17, 20, 5), (150, 5, -19, 18, 2),
        (400, 5, -10, 22, 0), (3, 5, -15.5, 20, 6),
    ):  # fmt: skip
        fit = {"chisq": chisq, "ndof": ndof, "absmag": absmag, "mag": mag}
        assert part(score(table, fit=fit), "fit") == points


def test_the_absolute_magnitude_that_was_meant_counts_unless_ampels_is_asked_for() -> None:
    near, far = {"z": 0.03, "distance": 10.0}, {"z": 0.5, "distance": 10.0}
    # distance moduli 35.7 and 42.3
    assert part(score(host=near), "absmag") == 1
    assert part(score(mag=12.0, host=near), "absmag") == 0
    assert part(score(host=far), "absmag") == 0
    for host in (near, far):
        assert part(score("kilonova_ampel", host=host), "absmag") == 0
    # 1 less the modulus of 19.9: Andromeda would pass, whatever its magnitude
    assert part(score("kilonova_ampel", 5.0, host={"z": 2.2e-6, "distance": 10.0}), "absmag") == 1


def test_what_gave_cost_and_is_not_known_is_named_and_ranked() -> None:
    tied = {
        "host": {"z": 0.03, "distance": 0.5}, "gw": {"level": 0.5, "distance_pull": 0.5},
        "features": {"fall": True, "peaked": False},
    }  # fmt: skip
    row = score(**tied)
    assert row["gave"] == ["redshift", "host_kpc", "map_distance", "map_level", "falls", "absmag"]
    assert row["cost"] == ["host_distance", "peaked"]
    assert row["unknown"] == ["fit_quality", "fit_magnitude", "fit_absmag"]
    assert row["score"] == 1 + 1 + 5 + 3 + 1 + 1
    assert row["rank"] == pytest.approx(12 / 14)
    ampel = score("kilonova_ampel", **tied)
    assert (ampel["score"], ampel["n_rejects"]) == (11, 4)
    best = {"host": {"z": 0.03, "distance": 5.0}, "gw": {"level": 0.1, "distance_pull": 0.0}}
    assert (score(**best)["gold"], score(**best)["rank"]) == (True, 1.0)
    assert score("kilonova_ampel", **best)["rank"] == pytest.approx(11 / 13)
    nothing = score(mag=float("nan"))
    assert (nothing["rank"], nothing["gold"]) == (0.0, False)
    assert len(nothing["unknown"]) == 11


def test_many_objects_are_scored_as_each_by_itself() -> None:
    unit = build("kilonovaness", {"take": TAKE}, Path())
    curves = [
        LightCurve.of(str(i), jd=[1.0], mag=[18.0 + i], results={
            "host": {"z": [None, 0.02, 0.2][i % 3], "distance": 3.0 * i},
            "gw": {"level": 0.1 * i, "distance_pull": i - 4.0},
        })
        for i in range(9)
    ]  # fmt: skip
    many = unit.process_batch(LightCurveBatch.of(curves))
    assert many is not None
    for i, curve in enumerate(curves):
        assert {name: v[i].as_py() for name, v in many.items()} == unit.process(curve)


def test_a_table_of_ones_own_is_read_and_what_is_wrong_in_it_named(tmp_path: Path) -> None:
    own = tmp_path / "own.yml"
    own.write_text("terms:\n- {name: near, points: [[2, z < 0.01], [1, z < 0.1]]}\n")
    assert score(str(own), host={"z": 0.05, "distance": 1.0})["score"] == 1
    own.write_text("terms:\n- {name: near, points: [[2, redshift < 0.01]]}\n")
    with pytest.raises(ConfigError, match="no quantity 'redshift'"):
        score(str(own))
    with pytest.raises(ConfigError, match=r"give unit\.column"):
        build("kilonovaness", {"take": {"z": "host"}}, Path())


@pytest.mark.real_data
def test_gw170817_scores_above_nearly_all_supernovae_by_redshift_and_magnitude(
    shared_data: Path,
) -> None:
    import csv

    import numpy as np
    from astropy.cosmology import Planck15

    def numbers(path: str, *names: str) -> list[list[float]]:
        with (shared_data / path).open() as file:
            rows = csv.DictReader(line for line in file if line.strip())
            found = [[row[name] for name in names] for row in rows if row.get("band", "r") == "r"]
        return [[float(v) for v in row] for row in found
                if all(v.replace(".", "").strip("-").isdigit() for v in row)]  # fmt: skip

    peak = min(row[0] for row in numbers("kilonova/at2017gfo_redback.csv", "magnitude"))
    absolute = peak - float(Planck15.distmod(0.0098).value)
    supernovae = numbers("ztf_bts/bts_snia.csv", "redshift", "peakabs", "peakmag")
    curves = [
        LightCurve.of(jd=[1.0], mag=[mag], results={"host": {"z": z, "distance": None},
                                                    "fit": {"absmag": absmag}})
        for z, absmag, mag in [[0.0098, absolute, peak], *supernovae]
    ]  # fmt: skip
    take = {"z": "host.z", "fit_absmag": "fit.absmag"}
    found = build("kilonovaness", {"take": take}, Path()).process_batch(LightCurveBatch.of(curves))
    assert found is not None
    score = np.array(found["score"])
    assert found["gave"][0].as_py() == ["redshift", "fit_absmag", "absmag"]
    assert len(score) > 2200
    # none of what tells them apart best is known here: host, map, decline
    assert (score[1:] < score[0]).mean() > 0.985
