"""What packets tell of measurements: in the ranges of the real archive, and fit for filters."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import fastavro
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from ampel_spark.simulate import Simulation, simulate
from ampel_spark.simulate.cutouts import CUTOUTS
from tests.simulate.conftest import Packet, members

# The middle 80 % of the simulated values must lie within the middle 99 % of the real ones.
# fmt: off
IN_RANGE = (
    "diffmaglim", "magpsf", "sigmapsf", "chipsf", "magap", "sigmagap", "distnr", "magnr",
    "sigmagnr", "chinr", "sharpnr", "sky", "magdiff", "fwhm", "classtar", "mindtoedge",
    "magfromlim", "seeratio", "aimage", "bimage", "aimagerat", "bimagerat", "elong", "nneg", "rb",
    "sumrat", "magapbig", "sigmagapbig", "srmag1", "sgscore1", "distpsnr1", "sgscore2",
    "distpsnr2", "sgscore3", "distpsnr3", "ndethist", "ncovhist", "scorr", "nmtchps",
    "nframesref", "dsnrms", "ssnrms", "dsdiff", "magzpsci", "magzpscirms", "nmatches", "clrcoeff",
    "clrcounc", "zpclrcov", "zpmed", "clrmed", "clrrms", "neargaia", "maggaia", "exptime", "drb",
    "field", "rcid",
)
# fmt: on
# Medians that a cut or a fit depends on: real and simulated ones within this factor or difference.
MEDIANS = {"diffmaglim": 0.3, "magpsf": 0.7, "fwhm": 0.4, "elong": 0.05, "magdiff": 0.05, "rb": 0.1}


@pytest.fixture(scope="module")
def real(shared_data: Path) -> pd.DataFrame:
    """Candidates of the real archive since schema 3.3, which has the fields of today's."""
    rows = []
    for _, _, data in members(sorted((shared_data / "ztf_alerts" / "archive").glob("*.tar.gz"))):
        for packet in fastavro.reader(io.BytesIO(data)):
            if packet["schemavsn"] >= "3.3":  # type: ignore[index]
                rows.append(packet["candidate"])  # type: ignore[index]
    return pd.DataFrame(rows)


def present(column: pd.Series) -> pd.Series:
    return column[(column != -999.0) & column.notna()].astype(float)


@pytest.mark.real_data
@pytest.mark.parametrize("name", IN_RANGE)
def test_values_lie_where_the_real_ones_do(
    name: str, candidates: pd.DataFrame, real: pd.DataFrame
) -> None:
    # One alert of each object: few objects make many alerts in so small an archive. And nothing
    # bogus: the public archive holds but little of it.
    each = candidates[candidates["kind"] != "bogus"].drop_duplicates("name", keep="last")
    low, high = present(each[name]).quantile([0.1, 0.9])
    least, most = present(real[name]).quantile([0.005, 0.995])
    margin = 1e-6 * max(abs(least), abs(most))
    assert least - margin <= low <= high <= most + margin


@pytest.mark.real_data
@pytest.mark.parametrize("name", MEDIANS)
def test_medians_are_near_the_real_ones(
    name: str, candidates: pd.DataFrame, real: pd.DataFrame
) -> None:
    expected = present(real[name]).median()
    assert present(candidates[name]).median() == pytest.approx(expected, abs=MEDIANS[name])


def test_kinds_differ_in_what_filters_look_at(candidates: pd.DataFrame) -> None:
    kinds = candidates.groupby("kind")
    medians = kinds[["rb", "drb", "ndethist", "distpsnr1", "sgscore1"]].median()
    assert medians.loc["bogus", "drb"] < 0.2 < 0.95 < medians.drop("bogus")["drb"].min()
    assert medians.loc["bogus", "rb"] < medians.drop("bogus")["rb"].min()
    assert medians.loc["variable", "distpsnr1"] < 0.5
    assert medians.loc["variable", "sgscore1"] > 0.9
    assert medians.loc["snia", "sgscore1"] < 0.3
    near = (candidates["ssdistnr"] >= 0.0).groupby(candidates["kind"]).mean()
    assert near["asteroid"] == pytest.approx(0.9, abs=0.1)
    assert near.drop("asteroid").max() < 0.05
    negative = (candidates["isdiffpos"] == "f").groupby(candidates["kind"]).mean()
    assert negative["snia"] < 0.02
    assert negative[["agn", "variable", "bogus"]].min() > 0.1
    assert (candidates.loc[candidates["kind"] == "bogus", "nbad"] > 0).mean() > 0.1
    assert (candidates.loc[candidates["kind"] != "bogus", "nbad"] == 0).all()


def test_cuts_as_decentfilters_accept_supernovae_and_little_else(
    packets: list[Packet], candidates: pd.DataFrame, truth: pd.DataFrame
) -> None:
    points = [[p["candidate"], *(p["prv_candidates"] or [])] for p in packets]
    jds = [[point["jd"] for point in row if point["candid"] is not None] for row in points]
    c = candidates
    record = c["jdendhist"] - c["jdstarthist"]
    accepted = c[
        np.array([len(row) >= 2 for row in jds])
        & np.array([0.02 <= max(row) - min(row) <= 60.0 for row in jds])
        & (c["isdiffpos"] == "t")
        & (c["rb"] >= 0.3)
        & (c["drb"] >= 0.5)
        & (c["fwhm"] <= 5.5)
        & (c["elong"] <= 1.4)
        & (c["magdiff"].abs() <= 1.0)
        & (c["nbad"] == 0)
        & (record > 0.0)
        & (record < 120.0)
        & ~((c["ssdistnr"] >= 0.0) & (c["ssdistnr"] < 20.0))
        & ~((c["distpsnr1"] < 1.0) & (c["sgscore1"] > 0.8))
    ]
    objects = accepted.groupby("kind")["name"].nunique()
    several = truth[truth["n_alerts"] > 3].groupby("kind").size()
    assert objects["snia"] > 0.8 * several["snia"]
    assert objects.get("asteroid", 0) == 0
    assert objects.get("bogus", 0) < 0.02 * (truth["kind"] == "bogus").sum()
    assert objects.get("variable", 0) <= 0.2 * several["variable"]
    assert len(c) > 2 * len(accepted)


def test_most_alerts_are_public(candidates: pd.DataFrame) -> None:
    shares = candidates["programid"].value_counts(normalize=True)
    assert 0.85 < shares[1] < 1.0
    assert set(shares.index) <= {1, 2, 3}


@pytest.mark.parametrize("cutouts", CUTOUTS)
def test_cutouts_are_as_asked_for(cutouts: str, tmp_path: Path) -> None:
    made: Simulation = simulate(
        tmp_path / cutouts, alerts=40, nights=8, first_night="2024-05-01", seed=2, cutouts=cutouts
    )
    sizes = []
    for _, _, data in members(made.archives):
        sizes.append(len(data))
        (packet,) = fastavro.reader(io.BytesIO(data))
        for name in ("Science", "Template", "Difference"):
            stamp = packet[f"cutout{name}"]  # type: ignore[index]
            if cutouts == "none":
                assert stamp is None
                continue
            assert str(packet["candid"]) in stamp["fileName"]  # type: ignore[index]
            with fits.open(io.BytesIO(gzip.decompress(stamp["stampData"]))) as units:
                assert units[0].data.shape == (CUTOUTS[cutouts], CUTOUTS[cutouts])
    if cutouts == "real":
        assert 60_000 < np.median(sizes) < 80_000
