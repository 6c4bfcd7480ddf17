"""Tables of services and brokers in their own forms, by the settings that come along."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ampel_spark.archive.reading.files import find_files
from ampel_spark.archive.reading.photometry import objects_of, read_photometry
from ampel_spark.archive.reading.readers import name_patterns, reader_of
from ampel_spark.archive.reading.rows import Packet
from ampel_spark.archive.reading.surveys import Survey
from ampel_spark.job.configuration.load import conf_dir, load_survey


def read(path: Path, survey: str | Survey) -> tuple[list[Packet], list[dict[str, Any]]]:
    settings = load_survey(survey) if isinstance(survey, str) else survey
    return objects_of(read_photometry(str(path), settings), settings)


def test_alerces_files_of_detections_and_of_limits_are_told_apart(tmp_path: Path) -> None:
    for name in ("detections_ZTF1.csv", "sne_detections.csv", "non_detections_ZTF1.csv",
                 "sne_non_detections.csv"):  # fmt: skip
        (tmp_path / name).write_text("oid,mjd,fid,diffmaglim\nZTF18aaaaaab,58000.5,1,20.5\n")
    names = {
        survey: [p.name for p in find_files([tmp_path], name_patterns(load_survey(survey)))]
        for survey in ("alerce", "alerce_limits")
    }
    assert names == {
        "alerce": ["detections_ZTF1.csv", "sne_detections.csv"],
        "alerce_limits": ["non_detections_ZTF1.csv", "sne_non_detections.csv"],
    }
    (packet,), bad = read(tmp_path / "non_detections_ZTF1.csv", "alerce_limits")
    assert bad == []
    assert [(p[1], p[2], p[6]) for p in packet.points] == [("upper_limit", 2458001.0, 20.5)]
    assert packet.survey == "alerce"


def test_lasairs_light_curves_have_the_name_of_their_file(tmp_path: Path) -> None:
    path = tmp_path / "lasair_ZTF18aaaaaab.csv"
    path.write_text("candid,fid,magpsf,sigmapsf,isdiffpos,mjd,diffmaglim\n"
                    "1961256644215015027,1,19.8,0.18,f,59715.25,20.1\n"
                    ",2,,,,59716.25,20.4\n")  # fmt: skip
    (packet,), bad = read(path, "lasair")
    assert (packet.name, bad) == ("ZTF18aaaaaab", [])
    assert [(p[1], p[3], p[7]) for p in packet.points] == [
        ("detection", "ztfg", -1), ("upper_limit", "ztfr", 0)
    ]  # fmt: skip


def test_alerces_example_data_have_every_row(shared_data: Path) -> None:
    path = shared_data / "alerce_lc" / "30_sne_detections_corr.csv"
    with path.open() as stream:
        there = list(csv.DictReader(stream))
    packets, bad = read(path, "alerce")
    assert bad == []
    assert Counter({p.name: len(p.points) for p in packets}) == Counter(
        row["objectId"] for row in there
    )
    for packet in packets[:5]:
        mine = [row for row in there if row["objectId"] == packet.name]
        assert sorted(p[7] for p in packet.points) == sorted(
            int(float(row["isdiffpos"])) for row in mine
        )


def test_alerces_example_limits_have_every_row(shared_data: Path) -> None:
    path = shared_data / "alerce_lc" / "30_sne_non_detections.csv"
    with path.open() as stream:
        there = list(csv.DictReader(stream))
    packets, bad = read(path, "alerce_limits")
    assert bad == []
    found = {(p.name, point[2], point[6]) for p in packets for point in p.points}
    assert found == {(r["objectId"], float(r["jd"]), float(r["diffmaglim"])) for r in there}
    assert {point[1] for p in packets for point in p.points} == {"upper_limit"}


def test_columns_of_points_and_of_objects_come_from_columns_and_heads(tmp_path: Path) -> None:
    made = load_survey("atlas").model_dump(exclude_none=True, by_alias=True)
    made["columns"] = {
        "points": {"chi": {"from": "chi/N", "type": "float", "comment": "of the fit"},
                   "image": {"from": "Obs", "type": "string", "comment": "name of the image"},
                   "count": {"from": "x", "type": "int", "comment": "a whole number"}},
        "alerts": {"sky": {"from": "Sky", "type": "double", "comment": "of the first row"}},
    }  # fmt: skip
    path = tmp_path / "job1.txt"
    path.write_text("###MJD m dm uJy duJy F err chi/N RA Dec x mag5sig Sky Obs\n"
                    "59801.5 18.4 0.04 157 6 o 0 1.12 210.1 -12.3 7 19.5 19.7 a\n"
                    "59802.5 18.4 0.04 158 6 o 0 1.5 210.1 -12.3 7.5 19.5 19.8 b\n")  # fmt: skip
    (packet,), _ = read(path, Survey.model_validate(made))
    assert [p[8] for p in packet.forced] == [157.0, 158.0]
    assert packet.forced_columns == [
        {"chi": 1.12, "image": "a", "count": 7}, {"chi": 1.5, "image": "b"}
    ]  # fmt: skip
    assert packet.own_columns == {"sky": 19.7}
    # what a column cannot hold is said
    assert json.loads(packet.own or "")["odd_values"] == ["field x: 7.5 is no integer"]


@pytest.mark.parametrize("source", ["names", "path"])
def test_rows_with_several_codes_are_unusable_by_any_of_them(source: str, tmp_path: Path) -> None:
    made = load_survey("atlas").model_dump(exclude_none=True, by_alias=True)
    made["photometry"]["unusable"] = [{"column": "err", "codes": [56, 255]}]
    path = tmp_path / "job1.txt"
    rows = "".join(f"{59801 + i} 1 6 o {code} 1 2 19\n" for i, code in
                   enumerate(("0", "56", "57,56", "156", "61,255")))  # fmt: skip
    path.write_text("MJD uJy duJy F err RA Dec mag5sig\n" + rows)
    if source == "path":
        (tmp_path / "mine.yml").write_text(json.dumps(made))
        (packet,), _ = read(path, str(tmp_path / "mine.yml"))
    else:
        (packet,), _ = read(path, Survey.model_validate(made))
    assert [p[8] is None for p in packet.forced] == [False, True, True, False, True]


def test_every_settings_file_is_in_the_page_with_what_it_was_tried_on() -> None:
    page = (conf_dir().parent / "docs" / "photometry.md").read_text()
    files = [*(conf_dir() / "surveys").glob("*.yml"), *(conf_dir() / "catalogs").glob("*.yml")]
    tables = [file for file in files if "reader: photometry" in file.read_text()
              or file.parent.name == "catalogs"]  # fmt: skip
    assert [f.name for f in tables if f"conf/{f.parent.name}/{f.name}" not in page] == []


def test_a_night_of_a_table_begins_when_the_survey_s_nights_do(tmp_path: Path) -> None:
    path = tmp_path / "job1.txt"
    path.write_text("MJD uJy duJy F err chi/N RA Dec mag5sig\n59801.4 157 6 o 0 1 210 -12 19\n")
    made = load_survey("atlas").model_dump(exclude_none=True, by_alias=True, exclude={"columns"})
    for hour, night in ((0.0, 20220810), (12.0, 20220809)):
        survey = Survey.model_validate(made | {"night_starts": hour})
        rows = [r for b in reader_of(survey)([str(path)]) for r in b.to_pylist()]
        assert [r["night"] for r in rows if r["row"] == "packet"] == [night]
