"""A release's file: what it may say, what is told where it is wrong, and what its hash is over."""

# ruff: noqa: E501  (lines are compared as they are printed)
from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from ampel_spark.archive.ids import stock_of
from ampel_spark.calibration.load import WAVELENGTHS, load_release
from ampel_spark.calibration.release import RAW
from ampel_spark.errors import ConfigError
from ampel_spark.job.configuration.load import load_calibration, load_job, load_survey
from tests.conftest import PROJECT

CONF = PROJECT / "conf" / "calibrations"

WHOLE = """\
name: whole
description: all there is
rules:
- name: one night of one chip
  select:
    survey: ztf
    band: [ztfr, ztfg]
    field: 600
    ccd: [2]
    kind: [detection, forced]
    time: {first: 2019-11-01, last: 2019-11-02}
    mag: {min: 17, max: 19.5}
    objects: [ZTF18abcdefg, 17]
  zero_point: 0.01
  flux_scale: 1.02
  nonlinearity: {mag_per_mag: 0.01, pivot: 17.5}
  slope: {mag: 0.005, over: 7000, pivot: 5500}
  error: {scale: 1.1, floor: 0.02, flux_floor: 0.01}
- {select: {rcid: 3}, mask: true}
- {table: quadrants.csv, adds: true}
- replace: {table: new.csv}
"""
TABLES = {
    "quadrants.csv": "# a draw\nccd,band,zero_point\n1,ztfg,0.01\n16,ztfg,-0.01\n",
    "new.csv": "datapoint_id,name,mag\n5,ZTF18abcdefg,18\n",
}


def release_file(folder: Path, text: str, **tables: str) -> Path:
    for name, content in {**TABLES, **{f"{k}.csv": v for k, v in tables.items()}}.items():
        (folder / name).write_text(content)
    path = folder / "mine.yml"
    path.write_text(text)
    return path


def problems(folder: Path, text: str, **tables: str) -> list[str]:
    with pytest.raises(ConfigError) as told:
        load_release(release_file(folder, text, **tables))
    return [line.replace(f"{folder}/", "") for line in str(told.value).splitlines()]


def test_everything_a_rule_can_say_is_read(tmp_path: Path) -> None:
    release = load_release(release_file(tmp_path, WHOLE))
    one, mask, table, new = release.rules
    assert (release.name, [r.number for r in release.rules]) == ("whole", [1, 2, 3, 4])
    s = one.select
    assert (s.survey, s.band, s.field, s.kind) == (
        ("ztf",), ("ztfg", "ztfr"), (600,), ("detection", "forced"),
    )  # fmt: skip
    assert s.rcid == (4, 5, 6, 7)
    # 2019-11-01 0h UTC is JD 2458788.5; both nights are in it
    assert s.jd == (2458788.5, 2458790.5)
    assert s.mag == (17.0, 19.5)
    assert s.stocks is not None
    assert s.stocks.tolist() == sorted([17, stock_of("ZTF18abcdefg")])
    assert (one.zero_point, one.flux_scale, one.nonlinearity) == (0.01, 1.02, (0.01, 17.5))
    assert one.slope == pytest.approx(
        {b: 0.005 * (WAVELENGTHS[b] - 5500) / 7000 for b in ("ztfg", "ztfr")}
    )
    assert (one.error_scale, one.error_floor, one.flux_floor) == (1.1, 0.02, 0.01)
    assert mask.mask
    assert mask.select.jd == (-math.inf, math.inf)
    assert table.table is not None
    assert table.adds
    assert table.table.keys["rcid"].tolist() == [0, 1, 2, 3, 60, 61, 62, 63]
    assert table.table.values["zero_point"].tolist() == [0.01] * 4 + [-0.01] * 4
    assert new.replace is not None
    assert new.replace.rows == 1


def test_the_hash_is_over_what_is_changed_and_not_over_how_it_is_written(tmp_path: Path) -> None:
    first = load_release(release_file(tmp_path, WHOLE)).content_hash
    same = (
        WHOLE.replace("name: whole", "name: other  # a comment")
        .replace("one night of one chip", "another name")
        .replace("band: [ztfr, ztfg]", "band: [ztfg, ztfr, ztfg]")
        .replace("ccd: [2]", "rcid: [7, 6, 5, 4]")
        .replace("{first: 2019-11-01, last: 2019-11-02}", "{first: 2458788.5, last: 2458790.5}")
        .replace("adds: true", "adds: false")
    )
    tables = {"quadrants": "zero_point,band,ccd\n-0.0100,ztfg,16\n1e-2,ztfg,1\n"}
    assert load_release(release_file(tmp_path, same, **tables)).content_hash == first
    others = [
        load_release(release_file(tmp_path, text, **more)).content_hash
        for text, more in (
            (WHOLE.replace("0.01\n", "0.011\n", 1), {}),
            (WHOLE.replace("field: 600", "field: 601"), {}),
            (WHOLE, {"quadrants": TABLES["quadrants.csv"].replace("-0.01", "-0.02")}),
            (WHOLE, {"new": TABLES["new.csv"].replace("18\n", "18.5\n")}),
        )
    ]
    assert len({first, *others}) == 5


def test_everything_wrong_is_told_with_its_line(tmp_path: Path) -> None:
    text = """\
name: wrong
rules:
- {select: {bandd: ztfg}, zero_point: 0.01}
- {select: {kind: [detections]}, zero_point: 10}
- {select: {rcid: 64}}
- {mask: true, flux_scale: 2}
- {zero_pont: 0.1}
- {table: quadrants.csv, zero_point: 0.1}
- {mask: yes}
- {zero_point: .nan}
- {select: {time: {first: [1]}}, mask: true}
"""
    assert problems(tmp_path, text) == [
        "mine.yml:3: rules[0].select.bandd: unknown key, value 'ztfg'; did you mean 'band'?",
        "mine.yml:4: rules[1].select.kind[0]: one of 'detection', 'upper_limit' or 'forced' is needed, value 'detections'; did you mean 'detection'?",
        "mine.yml:4: rules[1].zero_point: a number less than or equal to 5 is needed, value 10",
        "mine.yml:5: rules[2].select.rcid[0]: a number less than or equal to 63 is needed, value 64",
        'mine.yml:6: rules[3]: of masked points nothing can be changed: give flux_scale a rule of its own, value {"mask": true, "flux_scale": 2}',
        "mine.yml:7: rules[4].zero_pont: unknown key, value 0.1; did you mean 'zero_point'?",
        'mine.yml:8: rules[5]: a table says all that its rule changes: give zero_point another rule, value {"table": "quadrants.csv", "zero_point": 0.1}',
        "mine.yml:9: rules[6].mask: true is needed, value 'yes'",
        "mine.yml:10: rules[7].zero_point: a finite number is needed, value .nan",
        "mine.yml:11: rules[8].select.time.first: a number, text or a date (YYYY-MM-DD) is needed, value [1]",
    ]


def test_what_rules_name_is_checked_too(tmp_path: Path) -> None:
    text = """\
name: wrong
rules:
- {select: {time: {first: 2020-01-02, last: 2020-01-01}}, mask: true}
- {select: {time: {first: soon}, objects: [AT2017gfo]}, mask: true}
- {select: {objects_in: nowhere.txt, rcid: 0, ccd: 2}, mask: true}
- {select: {band: ztfz}, slope: {mag: 0.005, over: 7000, pivot: 5500}}
- {table: twice.csv}
- {table: odd.csv}
- {replace: {table: gone.csv}}
- {select: {objects: 9223372036854775808}, mask: true}
"""
    tables = {"twice": "band,zero_point\nztfg,0.1\nztfg,0.2\n", "odd": "band,zeropoint\nztfg,0.1\n"}
    assert problems(tmp_path, text, **tables) == [
        "mine.yml:3: rules[0].select.time: it ends (2020-01-01) before it begins (2020-01-02)",
        "mine.yml:4: rules[1].select.time.first: 'soon' is neither a JD (such as 2458849.5) nor a night (YYYY-MM-DD)",
        "mine.yml:4: rules[1].select.objects: 'AT2017gfo' is not a ZTF name (ZTF, year 17-32, seven letters a-z); other objects go by their stock id",
        "mine.yml:5: rules[2].select.ccd: none of these CCDs has one of the rcid given",
        "mine.yml:5: rules[2].select.objects_in: nowhere.txt cannot be read: [Errno 2] No such file or directory: 'nowhere.txt'",
        "mine.yml:5: rules[2].select.objects_in: the file names no object",
        "mine.yml:6: rules[3].slope: the wavelength of 'ztfz' is not known: give it, as wavelength: {ztfz: 5000}; did you mean 'ztfr'?",
        "mine.yml:7: rules[4].table: twice.csv has two rows for band ztfg",
        "mine.yml:8: rules[5].table: odd.csv: unknown column 'zeropoint'; did you mean 'zero_point'?",
        "mine.yml:9: rules[6].replace.table: gone.csv cannot be read: [Errno 2] No such file or directory: 'gone.csv'",
        "mine.yml:10: rules[7].select.objects: 9223372036854775808 has more than 64 bits; other objects go by their stock id",
    ]


def test_what_rules_name_is_checked_beside_other_problems(tmp_path: Path) -> None:
    text = """\
name: wrong name
rules:
- {table: gone.csv, select: {bandd: ztfg}}
- {select: {band: xyz}, slope: {mag: 0.005, over: 7000, pivot: 5500}}
- {zero_pont: 0.1, replace: {table: lost.csv}}
- {mask: true, flux_scale: 2, table: never.csv}
- nothing
"""
    assert problems(tmp_path, text) == [
        "mine.yml:1: name: a name is a letter or digit, then also '_', '.' and '-', value 'wrong name'",
        "mine.yml:3: rules[0].select.bandd: unknown key, value 'ztfg'; did you mean 'band'?",
        "mine.yml:3: rules[0].table: gone.csv cannot be read: [Errno 2] No such file or directory: 'gone.csv'",
        "mine.yml:4: rules[1].slope: the wavelength of 'xyz' is not known: give it, as wavelength: {xyz: 5000}; known: ztfg, ztfi, ztfr",
        "mine.yml:5: rules[2].zero_pont: unknown key, value 0.1; did you mean 'zero_point'?",
        "mine.yml:5: rules[2].replace.table: lost.csv cannot be read: [Errno 2] No such file or directory: 'lost.csv'",
        'mine.yml:6: rules[3]: of masked points nothing can be changed: give table, flux_scale a rule of its own, value {"mask": true, "flux_scale": 2, "table": "never.csv"}',
        "mine.yml:7: rules[4]: a mapping (lines of 'key: value') is needed, value 'nothing'",
    ]
    (told,) = problems(tmp_path, "name: wrong\nrules: {first: {table: gone.csv}}\n")
    assert told.startswith("mine.yml:2: rules: a list is needed")


def test_raw_changes_nothing() -> None:
    assert load_calibration("raw") == RAW
    assert load_calibration("raw").rules == ()


def test_the_draws_of_conf_are_those_that_their_comments_say() -> None:
    with (CONF / "quadrants_10mmag.csv").open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    drawn = np.random.default_rng(64).normal(0, 0.010, (64, 3)).ravel()
    assert [float(r["zero_point"]) for r in rows] == pytest.approx(drawn, abs=5.1e-6)
    (rule,) = load_calibration("zp_draw_1").rules
    draw = np.linalg.cholesky(0.004**2 * (0.5 + 0.5 * np.eye(3)))
    draw = draw @ np.random.default_rng(1).normal(size=3)
    assert rule.table is not None
    mine = dict(zip(rule.table.keys["band"], rule.table.values["zero_point"], strict=True))
    assert [mine[b] for b in ("ztfg", "ztfr", "ztfi")] == pytest.approx(draw, abs=5.1e-6)


def test_a_job_names_a_release_or_a_file_and_the_command_line_wins(tmp_path: Path) -> None:
    file = release_file(tmp_path, WHOLE)
    job = tmp_path / "job.yml"
    text = "name: j\nchannel: [{name: SN, access: [ZTF_PUB]}]\nt0: [{channel: SN, filter: SimpleDecentFilter}]\n"
    job.write_text(text + "calibration: ./mine.yml\n")
    mine = load_job(job)
    assert mine.calibration == load_release(file)
    assert mine.resolved["calibration"] == str(file)
    assert load_job(job, calibration="zp_g_10mmag").resolved["calibration"] == "zp_g_10mmag"
    with pytest.raises(ConfigError, match=r"--calibration zp_g_10: there is no .* mean 'zp_g"):
        load_job(job, calibration="zp_g_10")


def test_rules_for_other_surveys_know_their_channels_and_bands(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("""\
name: mine
rules:
- {select: {survey: lsst, rcid: [64, 188], band: [lsstg, ztfr]}, zero_point: 0.01}
- {select: {band: [lssty, atlaso]}, slope: {mag: 0.005, over: 7000, pivot: 5500}}
- {slope: {mag: 0.005, over: 7000, pivot: 5500}}
""")
    one, two, three = load_release(path, load_survey("atlas")).rules
    assert one.select.rcid == (64, 188)
    # the mean of the transmission, in sncosmo's own file of it
    assert two.slope == {"atlaso": 0.005 * (6866.3 - 5500) / 7000,
                         "lssty": 0.005 * (9710.3 - 5500) / 7000}  # fmt: skip
    assert three.slope is not None
    assert {*three.slope} == {"ztfg", "ztfr", "ztfi", "atlasc", "atlaso"}
    third = load_release(path).rules[2].slope or {}
    assert {*third} == {"ztfg", "ztfr", "ztfi"}
