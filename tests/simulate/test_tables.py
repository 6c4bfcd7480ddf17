"""The tables beside the archive, against each other and against the packets."""

from __future__ import annotations

from pathlib import Path

import astropy.units as u
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord

from ampel_spark.simulate import Simulation
from ampel_spark.simulate.objects import Sky
from tests.simulate.conftest import SMALL, Packet


@pytest.fixture(scope="module")
def hosts(simulation: Simulation) -> pd.DataFrame:
    return pq.read_table(simulation.hosts).to_pandas().set_index("host_id")


@pytest.fixture(scope="module")
def stars(simulation: Simulation) -> pd.DataFrame:
    return pq.read_table(simulation.stars).to_pandas().set_index("star_id")


def at(table: pd.DataFrame, ra: str = "ra", dec: str = "dec") -> SkyCoord:
    return SkyCoord(table[ra].to_numpy() * u.deg, table[dec].to_numpy() * u.deg)


@pytest.mark.parametrize("name", ["truth", "hosts", "stars"])
def test_every_column_tells_its_unit_and_meaning(name: str, simulation: Simulation) -> None:
    path: Path = getattr(simulation, name)
    for field in pq.read_schema(path):
        assert field.metadata.keys() >= {b"unit", b"comment"}
        assert field.metadata[b"comment"]
    units = {field.name: field.metadata[b"unit"].decode() for field in pq.read_schema(path)}
    assert units["ra"] == "deg"


def test_truth_has_a_row_for_each_object(simulation: Simulation, truth: pd.DataFrame) -> None:
    assert truth["kind"].value_counts().to_dict() == simulation.objects
    assert truth["n_alerts"].sum() == SMALL["alerts"]


def test_truth_counts_the_alerts_of_each_object(
    truth: pd.DataFrame, candidates: pd.DataFrame
) -> None:
    found = candidates.groupby("name")["jd"].agg(["count", "min", "max"])
    expected = truth[truth["n_alerts"] > 0]
    expected = expected[["n_alerts", "jd_first_alert", "jd_last_alert"]].sort_index()
    np.testing.assert_array_equal(found.sort_index(), expected)
    assert truth.loc[truth["n_alerts"] == 0, "jd_first_alert"].isna().all()
    assert (truth["n_detections"] >= truth["n_alerts"]).all()
    assert (truth["n_epochs"] >= truth["n_detections"]).all()


def test_detections_lie_at_the_object(truth: pd.DataFrame, candidates: pd.DataFrame) -> None:
    separation = at(candidates).separation(at(truth.loc[candidates["name"]])).to_value("arcsec")
    assert np.median(separation) < 0.3
    assert separation.max() < 3.0


def test_columns_are_null_where_they_mean_nothing(truth: pd.DataFrame) -> None:
    kinds = truth.groupby("kind")
    salt = kinds[["x0", "x1", "c"]].count()
    assert (salt.loc["snia"] == kinds.size()["snia"]).all()
    assert (salt.drop("snia") == 0).all(axis=None)
    assert kinds["z"].count()[["variable", "asteroid", "bogus"]].sum() == 0
    assert set(truth.loc[truth["kind"] == "snia", "mw_law"]) == {"ccm89"}
    assert kinds["peak_mag_r"].count()[["agn", "variable", "asteroid", "bogus"]].sum() == 0


def test_reddening_is_the_maps(truth: pd.DataFrame, sky: Sky) -> None:
    np.testing.assert_allclose(truth["mwebv"], sky.dust.ebv(truth["ra"], truth["dec"]), rtol=1e-12)


def test_hosts_are_in_the_catalogue_where_the_truth_says(
    truth: pd.DataFrame, hosts: pd.DataFrame
) -> None:
    hosted = truth[truth["host_id"].notna()]
    rows = hosts.loc[hosted["host_id"].astype(int)]
    assert at(rows).separation(at(hosted, "host_ra", "host_dec")).max() < 1e-3 * u.arcsec
    separation = at(hosted).separation(at(rows)).to_value("arcsec")
    np.testing.assert_allclose(separation, hosted["host_sep"], rtol=1e-4, atol=1e-4)
    pulls = (rows["z"].to_numpy() - hosted["z"].to_numpy()) / rows["z_err"].to_numpy()
    assert np.abs(pulls).max() < 5.0
    assert rows["z_err"].max() < 1e-3


def test_most_galaxies_host_nothing_and_most_nearest_ones_are_hosts(
    truth: pd.DataFrame, hosts: pd.DataFrame
) -> None:
    hosted = truth[truth["host_id"].notna()]
    assert len(hosts) > 4 * len(hosted)
    nearest = at(hosted).match_to_catalog_sky(at(hosts))[0]
    assert (hosts.index[nearest] == hosted["host_id"]).mean() > 0.9


def test_a_galaxys_number_does_not_tell_what_it_hosts(hosts: pd.DataFrame) -> None:
    assert hosts.index.tolist() == list(range(1, len(hosts) + 1))
    assert hosts["dec"].is_monotonic_increasing


def test_variable_stars_are_in_the_catalogue_of_stars_and_move(
    truth: pd.DataFrame, stars: pd.DataFrame
) -> None:
    variable = truth[truth["kind"] == "variable"]
    assert variable["star_id"].notna().all()
    rows = stars.loc[variable["star_id"].astype(int)]
    assert at(rows).separation(at(variable)).max() < 0.2 * u.arcsec
    moving = (rows["PMRA"].abs() > 3 * rows["ErrPMRA"]) | (rows["Plx"] > 3 * rows["ErrPlx"])
    assert moving.mean() > 0.5


def test_the_nearest_star_of_a_packet_is_in_the_catalogue(
    candidates: pd.DataFrame, truth: pd.DataFrame, stars: pd.DataFrame
) -> None:
    some = candidates[candidates["neargaia"] >= 0.0].drop_duplicates("name")
    _, distance, _ = at(truth.loc[some["name"]]).match_to_catalog_sky(at(stars))
    # A star at random may be nearer still, seldom.
    found = distance.to_value("arcsec")
    assert (found <= 1.01 * some["neargaia"]).all()
    np.testing.assert_allclose(np.median(found / some["neargaia"]), 1.0, rtol=1e-4)


def test_a_host_is_the_packets_ps1_galaxy(truth: pd.DataFrame, packets: list[Packet]) -> None:
    found = 0
    for packet in packets:
        row = truth.loc[packet["objectId"]]
        if row["kind"] not in ("snia", "cc"):
            continue
        candidate = packet["candidate"]
        for k in (1, 2, 3):
            if candidate[f"distpsnr{k}"] == pytest.approx(row["host_sep"], rel=1e-4):
                assert candidate[f"sgscore{k}"] <= 0.5
                found += 1
    # In crowded fields three other sources may be nearer.
    hosted = truth.loc[truth["kind"].isin(["snia", "cc"]), "n_alerts"].sum()
    assert found > 0.8 * hosted
