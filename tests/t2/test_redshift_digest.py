"""Quality groups of redshifts: every row of AMPEL's table, and the distances that go with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ampel_spark.errors import ConfigError
from ampel_spark.t2 import LightCurve, LightCurveBatch
from ampel_spark.t2.registry import build
from ampel_spark.t2.units.redshift_digest import RedshiftDigest


def digest(config: dict[str, Any] | None = None, **columns: Any) -> dict[str, Any]:
    """Digest one match, of columns named SOURCE__COLUMN."""
    row = {name.replace("__", "_"): value for name, value in columns.items()}
    row |= {f"{name.partition('__')[0]}_matched": True for name in columns}
    curve = LightCurve.of(jd=[1.0], results={"catalog_match": row})
    return dict(
        build("redshift_digest", {"max_category": 7} | (config or {}), Path()).process(curve)
    )


def test_matches_with_catalogues_that_the_table_does_not_know_are_named() -> None:
    result = digest(my_hosts__z=0.1)
    assert result.get("ampel_z") is None
    assert result["message"].startswith(
        "the table of sources knows none of the catalogues my_hosts:"
    )
    # one that it knows, without a redshift that counts, is no matter of the table
    assert "message" not in digest(SDSS_spec__z=-1.0, my_hosts__z=0.1)


#: source, column, value, distance → group (None: it does not count)
TABLE = [
    ("LSPhotoZTap", "z_spec", 0.029, 10.0, 1),
    ("LSPhotoZTap", "z_spec", 0.03, 10.0, 2),
    ("LSPhotoZTap", "z_spec", 0.149, 9.0, 2),
    ("LSPhotoZTap", "z_spec", 0.15, 9.0, 3),
    ("LSPhotoZTap", "z_spec", 0.4, 9.0, 5),
    ("LSPhotoZTap", "z_spec", -1.0, 9.0, None),
    ("LSPhotoZTap", "z_spec", -99.0, 9.0, None),
    ("LSPhotoZTap", "z_spec", 0.02, 10.01, None),
    ("LSPhotoZTap", "z_phot_median", 0.09, 9.0, 4),
    ("LSPhotoZTap", "z_phot_median", 0.1, 9.0, 5),
    ("LSPhotoZTap", "z_phot_median", 0.2, 9.0, 6),
    ("LSPhotoZTap", "z_phot_median", 0.4, 9.0, 7),
    ("NEDz_extcats", "z", 0.029, 1.9, 1),
    ("NEDz_extcats", "z", 0.029, 2.0, 3),
    ("NEDz_extcats", "z", 0.03, 1.9, 3),
    ("NEDz_extcats", "z", 0.049, 19.9, 3),
    ("NEDz_extcats", "z", 0.05, 1.0, 4),
    ("NEDz_extcats", "z", 0.02, 20.0, 4),
    ("SDSS_spec", "z", 1.5, 9.9, 2),
    ("SDSS_spec", "z", 0.01, 10.0, None),
    ("GLADEv23", "z", 0.049, 9.9, 3),
    ("GLADEv23", "z", 0.05, 9.9, 4),
    ("GLADEv23", "z", 0.01, 10.0, None),
    ("LSPhotoZZou", "specz", 0.149, 9.9, 2),
    ("LSPhotoZZou", "specz", 0.149, 10.0, 3),
    ("LSPhotoZZou", "specz", 0.15, 9.9, 3),
    ("LSPhotoZZou", "specz", 0.2, 1.0, 5),
    ("LSPhotoZZou", "photoz", 0.09, 9.9, 4),
    ("LSPhotoZZou", "photoz", 0.1, 9.9, 5),
    ("LSPhotoZZou", "photoz", 0.2, 9.9, 6),
    ("LSPhotoZZou", "photoz", 0.4, 9.9, 7),
    ("wiseScosPhotoz", "zPhoto_Corr", 0.19, 5.0, 5),
    ("wiseScosPhotoz", "zPhoto_Corr", 0.2, 5.0, 6),
    ("twoMPZ", "zPhoto", 0.029, 5.0, 3),
    ("twoMPZ", "zPhoto", 0.03, 5.0, 4),
    ("twoMPZ", "zSpec", 0.5, 5.0, 2),
    ("PS1_photoz", "z_phot", 99, 5.0, 4),
    ("PS1_photoz", "z_phot", 100, 5.0, 5),
    ("PS1_photoz", "z_phot", 200, 5.0, 6),
    ("PS1_photoz", "z_phot", 400, 5.0, 7),
    ("NEDz", "z", 0.39, 9.9, 3),
    ("NEDz", "z", 0.4, 9.9, None),
    ("NEDz", "z", 0.1, 10.0, None),
    ("BTS", "bts_redshift", "0.031", None, 1),
    ("BTS", "bts_redshift", "0.03", None, 2),
    ("BTS", "bts_redshift", "-", None, None),
]


@pytest.mark.parametrize(("source", "column", "value", "distance", "group"), TABLE)
def test_every_row_of_the_table(
    source: str, column: str, value: Any, distance: float | None, group: int | None
) -> None:
    found = digest(**{f"{source}__{column}": value, f"{source}__distance": distance})
    assert found.get("group_z_nbr") == group
    if group is not None:
        z = float(value) / (1000 if source == "PS1_photoz" else 1)
        assert found["ampel_z"] == pytest.approx(z)
        assert found["ampel_dist"] == distance
        assert found["z_sources"] == [source]
        precision = [0.0003, 0.003, 0.01, 0.02, 0.04, 0.1, 0.3][group - 1]
        assert found["group_z_precision"] == precision


def test_the_table_of_the_test_has_every_source_of_the_package() -> None:
    import yaml

    table = yaml.safe_load(RedshiftDigest().table.read_text())["redshifts"]
    there = {(source, rule["z"]) for source, rules in table.items() for rule in rules}
    assert there == {row[:2] for row in TABLE}


def test_the_best_group_counts_and_is_averaged_with_its_own_distances() -> None:
    found = digest(
        SDSS_spec__z=0.1, SDSS_spec__distance=2.0,
        twoMPZ__zSpec=0.2, twoMPZ__zPhoto=0.2, twoMPZ__distance=4.0,
        PS1_photoz__z_phot=300, PS1_photoz__distance=1.0,
    )  # fmt: skip
    assert found["ampel_z"] == pytest.approx(0.15)
    assert (found["group_z_nbr"], found["n_z"], found["ampel_dist"]) == (2, 2, 3.0)
    assert sorted(found["group_all"]) == [2, 2, 4, 6]


def test_distances_are_neither_lost_nor_counted_twice() -> None:
    # the BTS has no distance; AMPEL stops there, or takes the distances of another unit again
    alone = digest(BTS__bts_redshift="0.0312")
    assert (alone["ampel_z"], alone["ampel_dist"]) == (0.0312, None)
    both = digest(BTS__bts_redshift="0.0312", NEDz_extcats__z=0.02, NEDz_extcats__distance=1.5)
    assert (both["n_z"], both["ampel_dist"]) == (2, 1.5)
    several = digest(LSPhotoZTap__z_spec=[0.01, 0.02, None], LSPhotoZTap__distance=[3.0, 5.0, 6.0])
    assert (several["n_z"], several["ampel_dist"]) == (2, 4.0)
    assert several["dist_all"] == [3.0, 5.0]


def test_groups_beyond_the_worst_that_counts_give_no_redshift() -> None:
    found = digest({"max_category": 3}, PS1_photoz__z_phot=50, PS1_photoz__distance=1.0)
    assert found.get("ampel_z") is None
    assert found["z_all"] == [0.05]
    assert digest().get("ampel_z") is None


def test_a_source_of_ones_own_keeps_its_distance(tmp_path: Path) -> None:
    table = tmp_path / "mine.yml"
    table.write_text("redshifts: {hosts: [{z: z, cases: [{closer: 3, group: 2}]}]}\n")
    found = digest({"sources": str(table)}, hosts__z=0.05, hosts__distance=1.25)
    assert (found["ampel_z"], found["group_z_nbr"], found["ampel_dist"]) == (0.05, 2, 1.25)
    table.write_text("redshifts: {hosts: [{z: z, cases: [{closer: 3, group: 9}]}]}\n")
    with pytest.raises(ConfigError, match=r"mine\.yml"):
        digest({"sources": str(table)}, hosts__z=0.05, hosts__distance=1.25)


def test_an_entry_of_one_catalogue_has_the_name_of_its_source() -> None:
    row = {"matched": True, "distance": 1.0, "z": 0.04}
    curve = LightCurve.of(jd=[1.0], results={"SDSS_spec": row, "other": row})
    unit = build("redshift_digest", {"matches": ["SDSS_spec", "other"]}, Path())
    assert unit.needs() == ("SDSS_spec", "other")
    assert unit.process(curve)["n_z"] == 1


def test_colours_of_the_host_are_of_rows_that_are_near_enough() -> None:
    wise: dict[str, Any] = {"allWISE__Mag_W1": 15.0, "allWISE__Mag_W2": 14.25}
    assert digest(**wise, allWISE__distance=2.9)["wise_w1_w2"] == 0.75
    assert digest(**wise, allWISE__distance=3.0)["wise_w1_w2"] is None
    ps1: dict[str, Any] = {"PS1__gmag": 20.0, "PS1__rmag": 19.5, "PS1__imag": 19.25}
    found = digest(**ps1, PS1__zmag=None, PS1__distance=9.0)
    assert (found["ps1_g_r"], found["ps1_r_i"], found["ps1_i_z"]) == (0.5, 0.25, None)
    assert set(found) <= {c.name for c in RedshiftDigest().output_columns()}


def test_the_rows_of_a_match_reach_the_digest_and_a_fit_can_be_tied_to_it(tmp_path: Path) -> None:
    (tmp_path / "sdss.csv").write_text("ra,dec,z\n10.0,0.0,0.0625\n")
    match = build(
        "catalog_match",
        {"catalogs": {"SDSS_spec": {"catalog": "sdss.csv", "radius": 10, "append": ["z"]}}},
        tmp_path,
    )
    curve = LightCurve.of(jd=[1.0], ra=[10.0005], dec=[0.0])
    rows = match.process_batch(LightCurveBatch.of([curve]))
    assert rows is not None
    row = {name: values[0].as_py() for name, values in rows.items() if hasattr(values[0], "as_py")}
    tied = LightCurve.of(jd=[1.0], results={"catalog_match": row})
    found = build("redshift_digest", {}, tmp_path).process(tied)
    assert (found["ampel_z"], found["group_z_nbr"]) == (0.0625, 2)
    fit = build(
        "salt_fit", {"redshift": {"unit": "redshift_digest", "column": "ampel_z"}}, tmp_path
    )
    assert "redshift_digest" in fit.needs()
