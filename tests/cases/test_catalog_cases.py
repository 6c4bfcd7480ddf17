"""Every case of catalogues that people have: the rows that they give, or the refusal in words."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from ampel_spark.errors import ConfigError
from ampel_spark.job.configuration.catalogs import load_settings
from ampel_spark.sky.catalogs import Catalog
from ampel_spark.sky.sources import read_source
from ampel_spark.sky.tiles import canonical
from ampel_spark.t2 import LightCurve
from ampel_spark.t2.registry import build

GAIA = [4295806720000000001, 3436112908800000003, 3865554496000000007]


def read(cases: Path, file: str, name: str = "none", settings: str | None = None) -> pa.Table:
    path = None if settings is None else cases / settings
    return read_source([cases / file], load_settings(name, path), name)


def test_13_gaias_bulk_files_are_one_catalogue_in_every_form(cases: Path) -> None:
    hashes = set()
    for file in ("GaiaSource.ecsv", "GaiaSource_000000-000001.csv",
                 "GaiaSource_000000-000001.csv.gz", "plain_null.csv"):  # fmt: skip
        table = read(cases, f"13-gaia-bulk/{file}", "gaia")
        assert sorted(table["id"].to_pylist()) == sorted(GAIA)
        assert table["PMRA"].null_count == table["Plx"].null_count > 0
        hashes.add(Catalog.of(canonical(table)).content_hash)
    assert len(hashes) == 1


def test_14_tns_and_bts_have_a_date_line_and_dashes_for_nothing(cases: Path) -> None:
    for name, settings in (("none", "14-tns-bts/tns_settings.yml"), ("tns", None)):
        table = read(cases, "14-tns-bts/tns_public_objects.csv", name, settings)
        assert table["redshift"].to_pylist() == [0.031, None]
        assert table["ra"].to_pylist() == [0.0002, 359.9998]
    for name, settings in (("none", "14-tns-bts/bts_settings.yml"), ("bts", None)):
        table = read(cases, "14-tns-bts/bts.csv", name, settings)
        assert table["z"].to_pylist() == [0.031, None, 0.044]
        assert table["dec"].to_pylist() == pytest.approx([12.5, 12.5 + 0.4 / 3600, -30 / 3600])
    for name, settings in (("none", "14-tns-bts/tns_search_settings.yml"), ("tns_search", None)):
        table = read(cases, "14-tns-bts/tns_search.csv", name, settings)
        assert table["id"].to_pylist() == ["SN 2031aa", "AT 2031ab", "AT 2031ac"]
        assert table["ra"].to_pylist() == pytest.approx([0.0002, 359.9998, 150.0])
    hosts = read(cases, "14-tns-bts/hosts_dash.csv")
    assert pa.types.is_floating(hosts["z"].type)
    assert hosts["z"].null_count == 5


def test_14_hosts_whose_redshift_is_a_dash_are_matched_without_one(cases: Path) -> None:
    """`salt_fit` then takes ``otherwise``, as `tests.t2.test_salt_fit` shows of a null redshift."""
    unit = build("catalog_match", {
        "catalog": str(cases / "14-tns-bts" / "hosts_dash.csv"), "radius": 5.0, "append": {"z": "z"}
    }, cases)  # fmt: skip
    assert {c.name: c.type for c in unit.output_columns()}["z"] == "double"
    places = {"H1": (78.8261115, 38.2733705, 0.03), "H3": (77.953873, 53.4633886, None)}
    for ra, dec, z in places.values():
        point = {"jd": [2460000.5], "ra": [ra], "dec": [dec]}
        found = unit.process(LightCurve.of(**point))
        assert (found["matched"], found["z"]) == (True, z)


def test_15_places_at_the_edges_of_the_sky_are_found(cases: Path) -> None:
    table = read(cases, "15-sky-places/edges.csv", settings="15-sky-places/settings.yml")
    catalog = Catalog.of(canonical(table))
    assert (len(table), len(catalog)) == (14, 11)
    found = catalog.match([0.0], [10.0], 1.0, how="all", engine="plain")
    assert len(found.row) == 4


@pytest.mark.parametrize(
    "file", ["ids.csv", "ids_masked.ecsv", "ids_masked.fits", "ids_masked.vot"]
)
def test_16_large_ids_with_a_gap_are_exact(cases: Path, file: str) -> None:
    table = read(cases, f"16-large-ids/{file}", settings="16-large-ids/settings.yml")
    assert pa.types.is_integer(table["id"].type)
    exact = [1237680117417050117, 1237680117417050118]
    assert table["id"].drop_null().to_pylist() == exact
    assert table["id"].null_count == 1


def test_16_ids_beyond_63_bits_are_text_or_refused_and_never_floats(cases: Path) -> None:
    table = read(cases, "16-large-ids/ids_u64.csv")
    assert table["objID"].to_pylist() == ["9947579231887392768", "9947579231887392769"]
    with pytest.raises(ConfigError, match="objID"):
        read(cases, "16-large-ids/ids_u64.fits", settings="16-large-ids/settings.yml")
    with pytest.raises(ConfigError, match="lost digits"):
        read(cases, "16-large-ids/ids_float.csv", settings="16-large-ids/settings.yml")


def test_21_an_index_of_hipscat_is_no_column_and_nested_columns_are_named(cases: Path) -> None:
    old = read(cases, "21-hipscat-index/old_catalog")
    assert len(old) == 2
    assert "_hipscat_index" not in old.column_names
    with pytest.raises(ConfigError, match="leave it out of 'columns'"):
        read(cases, "21-hipscat-index/nested_catalog")
