"""Every case of files that people have: what is taken of each, and what is said of the rest.

The README in a case's folder has the right answer. Nothing here needs Spark: the readers give what
the ingest commits.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ampel_spark.archive.reading.files import find_files, left_out
from ampel_spark.archive.reading.readers import name_patterns, reader_of
from ampel_spark.job.configuration.load import load_survey

Rows = list[dict[str, Any]]


@dataclass
class Taken:
    """What became of the files of a case, by the files' names."""

    stored: dict[str, Rows] = field(default_factory=dict)
    bad: dict[str, Rows] = field(default_factory=dict)
    broken: dict[str, dict[str, Any]] = field(default_factory=dict)
    said: str = ""

    @property
    def names(self) -> list[str]:
        return sorted(self.stored)

    def packets(self, file: str = "") -> Rows:
        return [row for name in self.names if name.startswith(file) for row in self.stored[name]]

    def points(self, file: str = "") -> Rows:
        return [p for row in self.packets(file) for p in row["points"] + row["forced"]]


def taken(cases: Path, survey: str, *paths: str) -> Taken:
    settings = load_survey(str(cases / survey) if survey.endswith(".yml") else survey)
    named = [cases / path for path in paths]
    patterns = name_patterns(settings)
    found = Taken(said=" ".join(left_out(named, patterns)))
    files = [str(path) for path in find_files(named, patterns)]
    for batch in reader_of(settings)(files):
        for row in batch.to_pylist():
            name = Path(row["file"]).name
            if row["row"] == "packet":
                found.stored.setdefault(name, []).append(row)
            elif row["row"] in ("bad", "entry"):
                found.bad.setdefault(name, []).append(row)
            elif row["row"] == "broken":
                found.broken[name] = row
    return found


def test_01_archives_in_any_compression_and_case_are_read(cases: Path) -> None:
    found = taken(cases, "ztf", "01-compressions")
    assert len({row["alert_id"] for row in found.packets()}) == len(found.packets()) == 11
    assert (found.bad, found.broken) == ({}, {})


def test_01b_tables_in_any_compression_and_case_are_read_and_others_named(cases: Path) -> None:
    found = taken(cases, "01b-tables-mixed/dialect_all.yml", "01b-tables-mixed")
    assert found.names == ["a.csv", "b.csv.gz", "c.CSV", "d.tsv"]
    assert "1 .bak (e.csv.bak)" in found.said


@pytest.mark.parametrize(
    ("case", "alerts", "bad"),
    [("02-mac-tar", 2, 0), ("18-gz-members", 3, 0), ("23-sentinel-magnitude", 1, 1)],
)
def test_tars_give_their_packets(cases: Path, case: str, alerts: int, bad: int) -> None:
    found = taken(cases, "ztf", case)
    assert len(found.packets()) == alerts
    assert [r["reason"] for rows in found.bad.values() for r in rows] == ["bad_value"] * bad


def test_03_files_that_are_empty_or_wrong_say_why(cases: Path) -> None:
    found = taken(cases, "ztf", "03-empty-and-wrong")
    assert [name[-9:-7] for name in found.names] == ["12", "15"]
    assert {name[-9:-7]: row["reason"] for name, row in found.broken.items()} == {
        "10": "empty_archive", "11": "broken_archive", "13": "broken_archive",
        "14": "broken_archive",
    }  # fmt: skip
    said = {name[-9:-7]: row["detail"] for name, row in found.broken.items()}
    assert "0 bytes" in said["11"]
    assert "web page" in said["13"]
    assert "compressed twice" in said["14"]


def test_04_avro_outside_of_containers_is_named_as_what_it_is(cases: Path) -> None:
    found = taken(cases, "ztf", "04-wire-forms")
    assert [name[0] for name in found.names] == ["d", "e", "e", "e", "e", "e", "f"]
    assert len(found.stored["f_two.avro"]) == 2
    said = {name[0]: rows[0]["detail"] for name, rows in found.bad.items()}
    assert "schemaless" in said["a"]
    assert "Confluent header, schema id 704: the schema is not in the file" in said["b"]
    assert "single-object encoding" in said["c"]


def test_05_an_odd_value_costs_its_packet_or_its_entry_alone(cases: Path) -> None:
    found = taken(cases, "ztf", "05-odd-values")
    stored = {name.split("_")[0] for name in found.names}
    assert {"6", "7", "8", "11", "13", "15", "16", "17"} <= stored
    assert not {"5", "9", "10", "12", "14"} & stored
    for number in "1234":  # a word for a sign is quarantined, or negative
        own = [row["points"][0]["sign"] for row in found.packets(f"{number}_")]
        assert own in ([], [-1])
    for name in ("6_", "7_", "8_"):
        kinds = [p for p in found.points(name) if p["kind"] == "detection" and not p["mag"]]
        assert kinds == []
    (once,) = found.packets("13_")
    ids = [p["datapoint_id"] for p in once["points"]]
    assert len(ids) == len(set(ids))
    assert {p["programid"] for p in found.points("17_")} > {1}


def test_06_rubins_alerts_are_stored_without_what_is_null(cases: Path) -> None:
    found = taken(cases, "lsst", "06-lsst-v11")
    stored = {name.split("_")[0] for name in found.names}
    assert {"1", "2", "3", "6", "10", "12", "13"} <= stored
    assert "11" in {name.split("_")[0] for name in found.bad}
    # of 9 the alert's own source has no flux; that of its history has
    own = 170046893500000010
    assert not [p for p in found.points("9_") if p["datapoint_id"] == own and p["flux"]]


def test_06_a_source_of_the_solar_system_has_an_object_of_its_own(cases: Path) -> None:
    found = taken(cases, "lsst", "06-lsst-v11")
    (moving,) = found.packets("5_")
    assert moving["stock"] not in {row["stock"] for row in found.packets("1_")}


def test_06b_values_of_another_type_end_no_ingest(cases: Path) -> None:
    found = taken(cases, "lsst", "06b-lsst-types")
    assert {name[0]: rows[0]["reason"] for name, rows in found.bad.items()}.items() >= {
        "d": "bad_value", "e": "bad_value"
    }.items()  # fmt: skip
    assert {name[0] for name in (*found.stored, *found.bad)} == set("adeino")


@pytest.mark.parametrize("survey", ["07-ztf-forced-service/zfps.yml", "ztf_forced"])
def test_07_the_forced_photometry_service_as_it_writes(cases: Path, survey: str) -> None:
    found = taken(cases, survey, "07-ztf-forced-service")
    (packet,) = found.packets()
    points = sorted(packet["forced"], key=lambda p: p["jd"])
    assert [p["flux"] for p in points] == [
        18.25, -4.5, 412.75, 395.1, None, 803.4, None, 990.0
    ]  # fmt: skip
    assert [p["programid"] for p in points] == [1, 1, 1, 1, 1, 1, 1, 2]
    assert points[1]["sign"] == -1
    assert [p["zp"] for p in points][:2] == [26.1, 26.2]


@pytest.mark.parametrize("survey", ["08-atlas-forced/atlas_hash.yml", "atlas"])
def test_08_atlas_tables_have_their_odd_head(cases: Path, survey: str) -> None:
    found = taken(cases, survey, "08-atlas-forced")
    points = sorted(found.points(), key=lambda p: (p["jd"], p["procstatus"] or ""))
    assert sorted(p["flux"] or 0.0 for p in points) == [-33.0, 0.0, 157.0, 159.0, 251.0]
    assert [p["procstatus"] for p in points if p["flux"] is None] == ["err 1"]
    assert len({p["datapoint_id"] for p in points}) == 5


@pytest.mark.parametrize("survey", ["09-fink-csv/fink.yml", "fink"])
def test_09_finks_light_curves_have_signs_and_limits(cases: Path, survey: str) -> None:
    points = taken(cases, survey, "09-fink-csv").points()
    points.sort(key=lambda p: p["jd"])
    assert [(p["kind"], p["sign"]) for p in points] == [
        ("upper_limit", 0), ("detection", 1), ("detection", 1), ("detection", -1)
    ]  # fmt: skip
    assert points[0]["limit_mag"] == 20.44


@pytest.mark.parametrize("survey", ["10-alerce-csv/alerce.yml", "alerce"])
def test_10_alerces_detections_have_signs(cases: Path, survey: str) -> None:
    points = taken(cases, survey, "10-alerce-csv").points()
    points.sort(key=lambda p: p["jd"])
    assert [p["sign"] for p in points] == [1, -1, -1]
    assert [round(p["flux"], 2) for p in points] == [394.46, -325.09, -239.88]


@pytest.mark.parametrize("survey", ["11-irsa-lightcurve/irsa.yml", "irsa"])
def test_11_irsas_light_curves_are_read_as_ipac_table_and_as_csv(cases: Path, survey: str) -> None:
    found = taken(cases, survey, "11-irsa-lightcurve")
    assert found.names == ["lc_680101400001234.tbl", "lc_680101400005678.csv"]
    assert {row["name"] for row in found.packets()} == {"680101400001234", "680201400005678"}
    assert [len(found.points(name)) for name in found.names] == [1, 1]


def test_12_dialects_are_read_or_refused_in_words(cases: Path) -> None:
    found = taken(cases, "12-csv-dialects/dialect.yml", "12-csv-dialects")
    counts = {name[0]: len(found.points(name)) for name in found.names}
    assert counts == {"a": 2, "b": 2, "c": 1, "e": 1, "f": 5}
    assert "perhaps it is Latin-1" in found.broken["d_latin1.csv"]["detail"]
    usable = [p["flux"] for p in found.points("f_") if p["flux"] is not None]
    assert usable == [101.5]


@pytest.mark.parametrize(
    ("settings", "file", "said"),
    [("inti.yml", "b_u64.csv", "'9947579231887392768' has no id .*give 'ids: name'"),
     ("intn.yml", "h_double.parquet", "went through a floating-point number"),
     ("fz.yml", "n_dupcol.csv", "two columns are called 'flux'")],
)  # fmt: skip
def test_16b_ids_and_columns_that_are_not_sure_are_refused(
    cases: Path, settings: str, file: str, said: str
) -> None:
    found = taken(cases, f"16b-table-ids/{settings}", f"16b-table-ids/{file}")
    assert found.packets() == []
    assert re.search(said, found.broken[file]["detail"])


def test_17_parquet_of_any_writer_has_the_right_signs(cases: Path) -> None:
    found = taken(cases, "ztf_parquet", "17-broker-parquet")
    numbers = [name.split("_")[0] for name in found.names]
    assert {"1", "7"} <= {*numbers}
    assert "10" not in numbers
    for number in ("2", "3", "4"):
        newest = [max(row["points"], key=lambda p: p["jd"]) for row in found.packets(f"{number}_")]
        assert all(p["sign"] == -1 for p in newest)


@pytest.mark.parametrize("fits", [False, True])
def test_19_snanas_light_curves_are_read_as_text_and_as_fits(cases: Path, fits: bool) -> None:
    name = "snana_fits.yml" if fits else "snana.yml"
    found = taken(cases, f"19-snana/{name}", "19-snana")
    objects = {row["name"]: row for row in found.packets()}
    if not fits:
        (points,) = [row["forced"] for row in objects.values()]
        assert [*objects] == ["31a"]
        assert [(p["flux"], p["zp"]) for p in points] == [(512.25, 27.5), (498, 27.5), (-9, 27.5)]
        assert json.loads(objects["31a"]["own"])["header"]["REDSHIFT_HELIO"] == 0.0412
        return
    assert sorted(objects) == ["31a", "31b"]
    assert [len(row["forced"]) for row in objects.values()] == [2, 2]
    assert "HEAD" not in found.said


def test_25_a_source_issued_again_has_its_new_values_in_later_alerts(cases: Path) -> None:
    found = taken(cases, "lsst", "25-lsst-reissued")
    assert Counter(row["alert_id"] for row in found.packets()).most_common(1)[0][1] == 2
    (last,) = found.packets("d_")
    assert Counter(p["kind"] for p in last["points"] + last["forced"]) == {
        "detection": 3, "forced": 1
    }  # fmt: skip
