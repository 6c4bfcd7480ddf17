"""Jobs: read, checked and resolved; their errors as a person reads them."""

# ruff: noqa: E501  (lines are compared as they are printed)
from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from ampel_spark.archive.reading.ztf import ACCESS
from ampel_spark.document import DocumentError
from ampel_spark.errors import ConfigError
from ampel_spark.job.configuration.catalogs import catalog_inputs, load_settings
from ampel_spark.job.configuration.load import (
    conf_dir,
    load_calibration,
    load_job,
    load_survey,
    simulated_dir,
)
from ampel_spark.job.configuration.model import ResolvedJob, SimulationEntry

PROJECT = Path(__file__).resolve().parents[3]

SMALL = """\
name: small
channel:
- {name: SN, access: [ZTF_PUB]}
t0:
- channel: SN
  filter: SimpleDecentFilter
"""

WHOLE = """\
name: whole
description: all there is
lake: lakes/one
archive: nights
calibration: raw
catalog:
  hosts: {file: hosts.parquet, ra: raMean, dec: decMean, columns: [z]}
channel:
- {name: SN, access: [ZTF_PUB]}
- {name: Team, access: [ZTF_PUB, ZTF_PRIV]}
t0:
- channel: SN
  filter: SimpleDecentFilter
  config: {min_ndet: 3}
  on_stock_match: bypass
- channel: Team
  filter: Conditions
  config: {conditions: [rb >= 0.5, nbad <= 0]}
  history: archive
t1:
  states: {as_of: [2020-01-31, 2458800.5]}
  points: [detection]
t2:
- unit: own.py:Pulls
  name: pulls
  channel: Team
  config: {of: host}
- unit: catalog_match
  name: host
  config: {catalog: hosts, radius: 5.0}
- {unit: milky_way_dust, config: {map: quickstart}}
t3:
- name: near
  channel: SN
  select: host.matched and host.z < 0.1
  rank: -n_detections
  columns: [host.z, name]
  limit: 5
  export: [csv]
- name: pulled
  channel: Team
  columns: {pull: pulls.pull * 2}
report: false
"""

UNIT = '''
from ampel_spark.t2 import Column, Unit


class Pulls(Unit):
    """A unit from outside the package."""

    of: str

    columns = (Column("pull", "double", "", "a number"),)

    def needs(self):
        return (self.of,)

    def process(self, light_curve):
        return {"pull": light_curve.results[self.of]["z"]}
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with everything that the whole job names."""
    (tmp_path / "nights").mkdir()
    (tmp_path / "nights" / "ztf_public_20200101.tar.gz").touch()
    (tmp_path / "own.py").write_text(UNIT)
    hosts = pa.table({"raMean": [10.0], "decMean": [-5.0], "z": [0.05], "id": ["a"]})
    pq.write_table(hosts, tmp_path / "hosts.parquet")
    return tmp_path


def load(folder: Path, text: str, **given: Any) -> ResolvedJob:
    file = folder / "job.yml"
    file.write_text(text)
    return load_job(file, **given)


def problems(folder: Path, text: str, **given: Any) -> list[str]:
    """Return the lines of the error, without the folder."""
    with pytest.raises(DocumentError) as caught:
        load(folder, text, **given)
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def changed(old: str, new: str) -> str:
    """Return the whole job with `old` replaced by `new`."""
    assert old in WHOLE
    return WHOLE.replace(old, new, 1)


# --- what a good job becomes


def test_a_job_is_resolved_to_absolute_paths_and_built_parts(folder: Path) -> None:
    job = load(folder, WHOLE)
    assert job.lake == folder / "lakes" / "one"
    assert job.archive == (str(folder / "nights"),)
    assert job.catalogs["hosts"].file == folder / "hosts.parquet"
    assert {c.name: c.programids for c in job.channels.values()} == {"SN": (1,), "Team": (1, 2)}
    assert [(f.channel, f.filter.cuts()[0].threshold, f.history) for f in job.filters] == [
        ("SN", 3.0, "packet"),
        ("Team", 0.5, "archive"),
    ]
    assert job.states.mode == "as_of"
    assert job.states.as_of == pytest.approx((2458800.5, 2458880.5))
    assert job.selections[0].select.text == "host.matched and host.z < 0.1"
    assert list(job.selections[0].columns) == ["host_z"]
    assert list(job.selections[1].columns) == ["pull"]
    assert job.report is None
    assert job.text == WHOLE


def test_units_come_after_those_they_are_tied_to_else_in_the_order_of_the_job(folder: Path) -> None:
    job = load(folder, WHOLE)
    assert [unit.name for unit in job.units] == ["host", "pulls", "milky_way_dust"]
    assert [unit.needs for unit in job.units] == [(), ("host",), ()]
    assert [unit.channels for unit in job.units] == [("SN", "Team"), ("Team",), ("SN", "Team")]


def test_a_unit_comes_by_its_catalogue_through_the_job(folder: Path) -> None:
    host = load(folder, WHOLE).units[0]
    parameters = host.unit.model_dump()
    assert parameters["catalog"] == folder / "hosts.parquet"
    assert (parameters["ra"], parameters["dec"], parameters["append"]) == (
        "raMean",
        "decMean",
        {"z": "z"},
    )
    assert {c.name: c.type for c in host.columns}["z"] == "double"


def test_the_resolved_job_is_a_job_that_resolves_to_itself(folder: Path) -> None:
    job = load(folder, WHOLE)
    again = load(folder, yaml.safe_dump(json.loads(job.canonical)))
    assert again.canonical == job.canonical
    assert again.hash == job.hash


def test_a_hash_is_of_what_is_asked_and_not_of_how_it_is_written(folder: Path) -> None:
    job = load(folder, SMALL)
    written = SMALL.replace(
        "filter: SimpleDecentFilter", "filter: SimpleDecentFilter\n  config: {min_ndet: 2}"
    )
    assert load(folder, f"# a comment\nlake: elsewhere\n{written}").hash == job.hash
    assert load(folder, SMALL, sets=["t0.0.config.min_ndet=2"]).hash == job.hash
    assert load(folder, SMALL, sets=["t0.0.config.min_ndet=3"]).hash != job.hash


def test_what_has_a_name_does_not_depend_on_where_it_lies(folder: Path) -> None:
    text = SMALL + "t2:\n- {unit: milky_way_dust, config: {map: quickstart}}\n"
    assert str(PROJECT) not in load(folder, text).canonical


def test_settings_win_over_the_file_and_are_kept(folder: Path) -> None:
    job = load(folder, WHOLE, sets=["t0.SN.config.min_ndet=7", "t3.near.limit=2"])
    assert job.resolved["t0"][0]["config"]["min_ndet"] == 7
    assert job.selections[0].limit == 2
    assert job.settings == ("t0.SN.config.min_ndet=7", "t3.near.limit=2")


def test_an_archive_on_the_command_line_takes_the_place_of_the_jobs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder / "nights")
    job = load(folder, WHOLE, archive=["*.tar.gz"])
    assert job.archive == (str(folder / "nights" / "*.tar.gz"),)
    assert problems(folder, WHOLE, archive=["nowhere"]) == [
        "--archive nowhere: archive 'nights/nowhere' does not exist and matches no file"
        " (a directory, a file or a glob of *.tar, *.tgz, *.tbz, *.tbz2, *.txz, *.tzst, *.avro, plain or compressed: .gz .bz2 .xz .zst .zstd)"
    ]


DECENT = (
    *(
        "min_ndet",
        "min_tspan",
        "max_tspan",
        "min_rb",
        "max_fwhm",
        "max_elong",
        "max_magdiff",
        "max_nbad",
    ),
    *("min_sso_dist", "min_gal_lat", "ps1_sgveto_rad", "ps1_sgveto_th", "ps1_confusion_rad"),
    *("ps1_confusion_sg_tol", "gaia_rs", "gaia_pm_signif", "gaia_plx_signif", "gaia_veto_gmag_min"),
    *("gaia_veto_gmag_max", "gaia_excessnoise_sig_max"),
)
SIMULATED = f"""\
name: simulated
channel:
- {{name: SN, access: [ZTF_PUB]}}
t0:
- channel: SN
  filter: DecentFilter
  config: {{{", ".join(f"{name}: 1" for name in DECENT)}}}
  gaia: stars
archive: {{simulate: {{alerts: 100, nights: 10, first_night: 2020-01-01, seed: 3}}}}
catalog:
  hosts: {{simulated: hosts.parquet, columns: [z]}}
  stars: {{simulated: stars.parquet}}
t2:
- {{unit: catalog_match, name: host, config: {{catalog: hosts, radius: 5.0}}}}
t3:
- {{channel: SN, select: host.z < 0.1}}
"""


def test_catalogues_of_a_simulated_archive_are_where_it_will_be(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMPEL_SPARK_ARCHIVES", str(folder / "archives"))
    job = load(folder, SIMULATED)
    assert job.simulation is not None
    assert job.simulation.seed == 3
    assert job.simulated_in == simulated_dir(job.simulation)
    assert job.simulated_in.parent == folder / "archives"
    assert job.catalogs["hosts"].file == job.simulated_in / "hosts.parquet"
    assert job.units[0].unit.model_dump()["catalog"] == job.catalogs["hosts"].file
    assert job.filters[0].gaia == "stars"
    assert job.notes == ()
    assert not (folder / "archives").exists()  # checking makes nothing


def test_a_job_with_a_simulated_archive_resolves_to_itself(folder: Path) -> None:
    job = load(folder, SIMULATED)
    again = load(folder, yaml.safe_dump(json.loads(job.canonical)))
    assert again.hash == job.hash
    assert again.simulated_in == job.simulated_in


def test_another_archive_switches_them_off_and_says_so(folder: Path) -> None:
    job = load(folder, SIMULATED, archive=[str(folder / "nights")])
    assert (job.simulation, job.simulated_in, job.filters[0].gaia) == (None, None, None)
    assert job.notes == (
        "catalogue hosts is off: it comes with the simulated archive, and the archive is another",
        "catalogue stars is off: it comes with the simulated archive, and the archive is another",
    )
    empty = pq.read_table(job.units[0].unit.model_dump()["catalog"])
    assert (empty.num_rows, empty.column_names) == (0, ["ra", "dec", "z"])


def test_simulations_of_other_numbers_lie_elsewhere() -> None:
    assert simulated_dir(SimulationEntry(seed=1)) == simulated_dir(SimulationEntry(seed=1))
    assert simulated_dir(SimulationEntry(seed=1)) != simulated_dir(SimulationEntry(seed=2))


# --- what is said of a bad one


def test_everything_that_is_wrong_is_told_at_once(folder: Path) -> None:
    text = """\
name: bad job
chanel: []
survey: ztff
archive: nights/*.zip
catalog:
  hosts: {file: host.parquet}
  other: {}
channel:
- {name: SN, access: [ZTF_PUBLIC]}
- {name: SN, access: [ZTF_PUB]}
- {name: AGN, access: ZTF_PUB}
t0:
- channel: SNN
  filter: SimpleDecentFilter
  config: {min_ndett: 3, max_nbad: few}
  on_stock_match: bypas
- {channel: SN, filter: DecntFilter}
t1: {states: {as_of: [2020-01-01, 12]}, points: [detektion]}
t2:
- {unit: light_curve_sumary}
- {unit: milky_way_dust, config: {map: quickstrat}}
t3:
- {channel: SN, select: x1 <, limit: 0}
"""
    assert problems(folder, text) == [
        "job.yml:1: name: a name is a letter or digit, then also '_', '.' and '-', value 'bad job'",
        "job.yml:2: chanel: unknown key, value []; did you mean 'channel'?",
        f"job.yml:3: survey: there is no 'ztff' in {conf_dir() / 'surveys'}; did you mean 'ztf'?",
        "job.yml:4: archive: archive 'nights/*.zip' does not exist and matches no file"
        " (a directory, a file or a glob of *.tar, *.tgz, *.tbz, *.tbz2, *.txz, *.tzst, *.avro, plain or compressed: .gz .bz2 .xz .zst .zstd)",
        "job.yml:6: catalog.hosts.file: there is no file host.parquet",
        "job.yml:7: catalog.other: give either 'lake', a catalogue of the lake, 'file', a path, or 'simulated', a file of the simulated archive",
        "job.yml:10: channel[1].name: a second channel 'SN'",
        "job.yml:11: channel[2].access: a list is needed, value 'ZTF_PUB'",
        "job.yml:11: channel[2]: channel 'AGN' has no filter in t0",
        "job.yml:13: t0[0].channel: unknown channel, value 'SNN'; did you mean 'SN'?",
        "job.yml:15: t0[0].config.max_nbad: a whole number is needed, value 'few'",
        "job.yml:15: t0[0].config.min_ndett: unknown parameter, value 3; did you mean 'min_ndet'?",
        "job.yml:16: t0[0].on_stock_match: one of 'none', 'bypass', 'overrule' or 'silent_overrule' is needed,"
        " value 'bypas'; did you mean 'bypass'?",
        "job.yml:17: t0[1].filter: unknown filter, value 'DecntFilter'; did you mean 'DecentFilter'?",
        "job.yml:18: t1.points[0]: one of 'detection', 'upper_limit' or 'forced' is needed, value 'detektion';"
        " did you mean 'detection'?",
        "job.yml:18: t1.states.as_of[1]: '12' is neither a JD (such as 2458849.5) nor a night (YYYY-MM-DD)",
        "job.yml:20: t2[0].unit: no unit 'light_curve_sumary'; did you mean 'light_curve_summary'?;"
        " one's own is path/file.py:Class or module:Class",
        "job.yml:21: t2[1].config.map: no dust map of this name in "
        f"{conf_dir() / 'dust'} (there: planck13_lowres, quickstart, sfd_lowres); or give a path, value 'quickstrat'",
        "job.yml:23: t3[0].limit: a number greater than or equal to 1 is needed, value 0",
        "job.yml:23: t3[0].select: not an expression: invalid syntax, at character 5 of 'x1 <'",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("t1: {state: latest}", "t1.state: unknown key, value 'latest'; did you mean 'states'?"),
        (
            "t1: {states: {asof: [1]}}",
            "t1.states.asof: unknown key, value [1]; did you mean 'as_of'?",
        ),
        (
            "archive: {simulate: {alert: 3}}",
            "archive.simulate.alert: unknown key, value 3; did you mean 'alerts'?",
        ),
        ("catalog: {h: {fiel: x}}", "catalog.h.fiel: unknown key, value 'x'; did you mean 'file'?"),
        (
            "t3: [{channel: SN, ranc: x}]",
            "t3[0].ranc: unknown key, value 'x'; did you mean 'rank'?",
        ),
        (
            "report: {candidate: 3}",
            "report.candidate: unknown key, value 3; did you mean 'candidates'?",
        ),
        (
            "catalog: {1x: {file: x}}",
            "catalog.1x: a name is a letter, then letters, digits and '_', value '1x'",
        ),
        ("t2: {unit: x}", 't2: a list is needed, value {"unit": "x"}'),
        ("lake: 3", "lake: text is needed, value 3"),
    ],
)
def test_the_nearest_key_is_told_at_every_depth(folder: Path, text: str, said: str) -> None:
    assert f"job.yml:7: {said}" in problems(folder, f"{SMALL}{text}\n")


def test_a_part_of_a_unit_comes_by_its_catalogue_too(folder: Path) -> None:
    text = SMALL + (
        "catalog:\n  hosts: {file: hosts.parquet, ra: raMean, dec: decMean}\n"
        "t2:\n- unit: salt_fit\n  config: {bands: [ztfg, ztfr], redshift: {catalog: hosts, radius: 3}}\n"
    )
    job = load(folder, text)
    redshift = job.units[0].unit.model_dump()["redshift"]
    assert redshift["catalog"] == folder / "hosts.parquet"
    assert (redshift["ra"], redshift["dec"], redshift["radius"]) == ("raMean", "decMean", 3.0)
    assert job.resolved["t2"][0]["config"]["redshift"]["catalog"] == "hosts"
    assert problems(folder, text.replace("catalog: hosts, radius", "catalog: hostz, radius")) == [
        "job.yml:11: t2[0].config.redshift.catalog: unknown catalogue, value 'hostz'; did you mean 'hosts'?"
    ]
    (said,) = problems(folder, text.replace("radius: 3", "radios: 3"))
    assert (
        said
        == "job.yml:11: t2[0].config.redshift.radios: unknown parameter, value 3; did you mean 'radius'?"
    )


def test_a_radius_of_the_object_s_own_comes_from_a_column_that_is_there(folder: Path) -> None:
    text = SMALL + (
        "catalog:\n  hosts: {file: hosts.parquet, ra: raMean, dec: decMean, columns: [z]}\nt2:\n"
        "- {unit: catalog_match, name: near, config: {catalog: hosts, radius: {unit: host, column: z, scale: 100}}}\n"
        "- {unit: catalog_match, name: host, config: {catalog: hosts, radius: 5}}\n"
    )
    job = load(folder, text)
    assert [(unit.name, unit.needs) for unit in job.units] == [("host", ()), ("near", ("host",))]
    assert job.resolved["t2"][1]["config"]["radius"] == {
        "unit": "host", "column": "z", "scale": 100.0, "most": 60.0,
    }  # fmt: skip
    assert load(folder, yaml.safe_dump(json.loads(job.canonical))).hash == job.hash
    for old, new, said in (
        ("column: z", "column: zz",
         "10: t2[0]: unit 'near' reads column 'zz' of 'host', which has no such column; did you mean 'z'?"),
        ("scale: 100", "scal: 100",
         "10: t2[0].config.radius.scal: unknown parameter, value 100; did you mean 'scale'?"),
    ):  # fmt: skip
        assert problems(folder, text.replace(old, new)) == [f"job.yml:{said}"]


def test_a_catalogue_that_is_no_parquet_is_told(folder: Path) -> None:
    (folder / "hosts.parquet").write_text("ra,dec\n1,2\n")
    (said,) = problems(folder, WHOLE)
    assert said.startswith("job.yml:7: catalog.hosts.file: hosts.parquet is no Parquet file: ")


def test_a_missing_key_is_told_where_it_should_be(folder: Path) -> None:
    assert problems(folder, "t0:\n- {filter: SimpleDecentFilter}\n") == [
        "job.yml:1: required keys 'name', 'channel' are missing",
        "job.yml:2: t0[0]: required key 'channel' is missing",
    ]


def test_missing_parameters_are_told_in_one_line(folder: Path) -> None:
    (line,) = problems(folder, SMALL.replace("SimpleDecentFilter", "Conditions"))
    assert line == "job.yml:5: t0[0].config: required parameter 'conditions' is missing"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("{min_ndet: 3}", "{max_tspan: 0.01}",
         "14: t0[0].config: min_tspan (0.02) is above max_tspan (0.01): nothing can lie between"),
        ("rb >= 0.5", "rbb >= 0.5",
         "18: t0[1].config.conditions[0]: no column 'rbb'; did you mean 'rb'?, value 'rbb >= 0.5'"),
        ("  on_stock_match: bypass", "  gaia: hosts",
         "15: t0[0].gaia: the filter SimpleDecentFilter has no Gaia veto here: leave the key out"),
        ("  on_stock_match: bypass", "  gaia: starz",
         "15: t0[0].gaia: unknown catalogue, value 'starz'; known: hosts; enter it as catalog: {starz: {file: PATH}},"),
        ("ra: raMean", "ra: raMeen", "7: catalog.hosts.ra: the file has no column 'raMeen'; did you mean 'raMean'?"),
        ("columns: [z]", "columns: [z, zz]",
         "7: catalog.hosts.columns[1]: the file has no column 'zz'; did you mean 'z'?"),
        ("own.py:Pulls", "own.py:Pull", "24: t2[0].unit: "),
        ("own.py:Pulls", "lost.py:Pulls", "24: t2[0].unit: unit 'lost.py:Pulls': cannot read lost.py"),
        ("{of: host}", "{of: hosd}",
         "24: t2[0]: unit 'pulls' needs the results of 'hosd', which is not in t2; did you mean 'host'?"),
        ("{of: host}", "{of: pulls}", "24: t2[0]: ties go in a circle: 'pulls' needs 'pulls'"),
        ("name: host", "name: host\n  channel: SN",
         "24: t2[0]: unit 'pulls' needs the results of 'host', which does not run for channel 'Team'"),
        ("name: pulled", "name: pulled\n  name: pulled", "41: t3[1].name: given twice, in line 40 and line 41"),
        ("catalog: hosts, r", "catalog: host, r",
         "30: t2[1].config.catalog: unknown catalogue, value 'host'; did you mean 'hosts'?"),
        ("catalog: hosts, r", "catalog: host.csv, r", "30: t2[1].config.catalog: there is no file host.csv"),
        ("radius: 5.0", "radius: -5.0", "30: t2[1].config.radius: a number greater than 0 is needed, value -5.0"),
        ("map: quickstart", "map: dust.fits", "31: t2[2].config: dust map dust.fits is not there"),
        ("host.z < 0.1", "hosts.z < 0.1",
         "35: t3[0].select: unit 'hosts' is not in t2; did you mean 'host'?, value 'host.matched and hosts.z < 0.1'"),
        ("host.z < 0.1", "host.zz < 0.1",
         "35: t3[0].select: unknown column 'host.zz' at character 18 of 'host.matched and host.zz < 0.1';"
         " did you mean 'host.z'?"),
        ("host.z < 0.1", "pulls.pull < 1",
         "35: t3[0].select: unit 'pulls' does not run for channel 'SN', value 'host.matched and pulls.pull < 1'"),
        ("host.matched and host.z < 0.1", "host.z + 1",
         "35: t3[0].select: a boolean is needed, and this is a number, value 'host.z + 1'"),
        ("rank: -n_detections", "rank: host.matched",
         "36: t3[0].rank: a number or a string is needed, and this is a boolean, value 'host.matched'"),
        ("[host.z, name]", "[host.z + 1]",
         "37: t3[0].columns[0]: give this a label: 'columns: {label: expression}', value 'host.z + 1'"),
        ("[host.z, name]", "{rank: host.z}",
         "37: t3[0].columns.rank: the table has a column 'rank' of its own: take another label"),
        ("[host.z, name]", "{z: host.z, Z: host.z}", "37: t3[0].columns.Z: a second column 'Z'"),
        ("[host.z, name]", "{'a b': host.z}",
         "37: t3[0].columns.a b: a label is a letter, then letters, digits and '_', value 'a b'"),
        ("name: pulled", "name: near", "40: t3[1]: a second selection 'near': give it another 'name'"),
        ("calibration: raw", "calibration: raww", "5: calibration: there is no 'raww' in"),
    ],
)  # fmt: skip
def test_a_problem_is_told_with_line_path_value_and_the_nearest_right_name(
    folder: Path, old: str, new: str, line: str
) -> None:
    (said,) = problems(folder, changed(old, new))
    assert said.startswith(f"job.yml:{line}")


def test_what_is_no_time_is_told_once_and_as_it_was_written(folder: Path) -> None:
    text = (
        SMALL + "t1:\n  states:\n    as_of:\n    - 2024-15-15\n    - 2024-15\n    - true\n    - ~\n"
    )
    assert problems(folder, text) == [
        "job.yml:10: t1.states.as_of[0]: cannot be read as YAML (month must be in 1..12), value '2024-15-15'",
        "job.yml:11: t1.states.as_of[1]: '2024-15' is neither a JD (such as 2458849.5) nor a night (YYYY-MM-DD)",
        "job.yml:12: t1.states.as_of[2]: a number, text or a date (YYYY-MM-DD) is needed, value true",
        "job.yml:13: t1.states.as_of[3]: a number, text or a date (YYYY-MM-DD) is needed, value null",
    ]


def test_a_parameter_that_is_nan_is_told_once(folder: Path) -> None:
    assert problems(folder, changed("{min_ndet: 3}", "{max_fwhm: .nan}")) == [
        "job.yml:14: t0[0].config.max_fwhm: a finite number is needed, value .nan"
    ]


def test_every_condition_that_cannot_be_read_is_told_where_it_stands(folder: Path) -> None:
    text = SMALL.replace("SimpleDecentFilter", "Conditions\n  config:") + (
        "    conditions: [rb >, rb > 0.3, bad]\n    by_group: [[rb > 0.5, rbb > 1], [fid > x]]\n"
    )
    assert problems(folder, text) == [
        "job.yml:8: t0[0].config.conditions[0]: cannot be read: not an expression: invalid syntax, at character 5 of 'rb >', value 'rb >'",
        "job.yml:8: t0[0].config.conditions[2]: no column 'bad'; did you mean 'nbad'?, value 'bad'",
        "job.yml:9: t0[0].config.by_group[0][1]: no column 'rbb'; did you mean 'rb'?, value 'rbb > 1'",
        "job.yml:9: t0[0].config.by_group[1][0]: no column 'x'; `ampel-spark tables` lists the columns of alerts, value 'fid > x'",
    ]


def test_a_catalogue_that_the_job_does_not_enter_is_told_with_what_to_enter(folder: Path) -> None:
    from ampel_spark.lake.marker import mark
    from ampel_spark.sky.store import add

    def cure(name: str, there: str = "") -> str:
        return (
            f"unknown catalogue, value '{name}'; enter it as catalog: {{{name}: {{file: PATH}}}}, or {{lake: NAME}} for a"
            f" catalogue of the lake{there}, which `ampel-spark catalog add NAME FILE` puts there"
        )

    text = SMALL + (
        "lake: lakes\nt2:\n- {unit: catalog_match, config: {catalog: host}}\n"
        "- {unit: catalog_match, name: b, config: {catalogs: {stars: {radius: 3}, x: {catalog: galaxies, radius: 3}}}}\n"
    )
    assert problems(folder, text) == [
        f"job.yml:9: t2[0].config.catalog: {cure('host')}",
        "job.yml:9: t2[0].config: catalog and radius go together",
        f"job.yml:10: t2[1].config.catalogs.stars: {cure('stars')}",
        f"job.yml:10: t2[1].config.catalogs.x.catalog: {cure('galaxies')}",
    ]
    add(mark(folder / "lakes"), "galaxies", pa.table({"ra": [1.0], "dec": [2.0]}))
    assert problems(folder, text)[2:] == [
        f"job.yml:10: t2[1].config.catalogs.stars: {cure('stars', ' (there: galaxies)')}",
        "job.yml:10: t2[1].config.catalogs.x.catalog: unknown catalogue, value 'galaxies'; the lake has it:"
        " enter it as catalog: {galaxies: {lake: galaxies}}",
    ]


def test_of_a_catalogue_that_is_entered_wrongly_the_entry_alone_is_told(folder: Path) -> None:
    assert problems(
        folder, changed("{file: hosts.parquet,", "{file: hosts.parquet, version: x,")
    ) == ["job.yml:7: catalog.hosts.version: a whole number is needed, value 'x'"]
    assert problems(
        folder,
        changed(
            "hosts: {file: hosts.parquet, ra: raMean, dec: decMean, columns: [z]}",
            "hosts: hosts.parquet",
        ),
    )[0] == (
        "job.yml:7: catalog.hosts: a mapping (lines of 'key: value') is needed, value 'hosts.parquet'"
    )


def test_the_ties_of_a_unit_are_told_beside_what_else_is_wrong_with_it(folder: Path) -> None:
    text = SMALL + (
        "t2:\n- unit: salt_fit\n  config:\n    redshift: {unit: milky_way_dust, column: z}\n"
        "    dust: {unit: milky_way_dusd}\n    bands: [ztfx, ztfg, ztfy]\n    min_points: few\n"
        "- {unit: milky_way_dust, config: {map: quickstart}}\n"
    )
    said = problems(folder, text)
    band = r"job\.yml:12: t2\[0\]\.config\.bands\[%d\]: no such band; did you mean 'ztf[gri]'\?, value '%s'"
    ties = [
        "job.yml:8: t2[0]: unit 'salt_fit' needs the results of 'milky_way_dusd', which is not in t2; did you mean 'milky_way_dust'?",
        "job.yml:8: t2[0]: unit 'salt_fit' reads column 'z' of 'milky_way_dust', which has no such column; known: dec, ebv, ra",
    ]
    assert sorted(said[:2]) == ties
    assert re.fullmatch(band % (0, "ztfx"), said[2])
    assert re.fullmatch(band % (2, "ztfy"), said[3])
    assert said[4:] == [
        "job.yml:13: t2[0].config.min_points: a whole number is needed, value 'few'"
    ]
    # each alone
    good = text.replace("dusd", "dust").replace("ztfx, ztfg, ztfy", "ztfg").replace("few", "5")
    assert problems(folder, good) == ties[1:]
    (alone,) = problems(
        folder, good.replace("column: z", "column: ebv").replace("[ztfg]", "[ztfx]")
    )
    assert re.fullmatch(band % (0, "ztfx"), alone)
    # a tie that the job does not name is none of its mistakes
    (said,) = problems(
        folder, good.replace("column: z", "column: ebv").replace("{unit: milky_way_dust}", "3")
    )
    assert "config.dust: " in said


def test_a_channel_has_one_filter(folder: Path) -> None:
    assert problems(folder, changed("- channel: Team\n  filter", "- channel: SN\n  filter")) == [
        "job.yml:10: channel[1]: channel 'Team' has no filter in t0",
        "job.yml:16: t0[1].channel: a second filter of channel 'SN'",
    ]


def test_a_unit_has_one_name(folder: Path) -> None:
    text = SMALL + "t2:\n- unit: light_curve_summary\n- unit: light_curve_summary\n"
    assert problems(folder, text) == [
        "job.yml:9: t2[1]: a second unit named 'light_curve_summary': give it another 'name'"
    ]


def test_what_follows_from_a_bad_unit_is_not_told(folder: Path) -> None:
    # t3 names its columns, and another unit is tied to it
    (said,) = problems(folder, changed("radius: 5.0", "radius: wide"))
    assert said == "job.yml:30: t2[1].config.radius: a number is needed, value 'wide'"


def test_ties_in_a_circle_are_told_with_the_circle(folder: Path) -> None:
    text = SMALL + (
        "t2:\n- {unit: 'own.py:Pulls', name: a, config: {of: b}}\n- {unit: 'own.py:Pulls', name: b, config: {of: c}}\n"
        "- {unit: 'own.py:Pulls', name: c, config: {of: a}}\n"
    )
    (line,) = problems(folder, text)
    assert "ties go in a circle: " in line
    assert any(
        f"'{x}' needs '{y}' needs '{z}' needs '{x}'" in line for x, y, z in ("abc", "bca", "cab")
    )


def test_a_problem_in_what_was_set_names_the_setting(folder: Path) -> None:
    assert problems(
        folder, SMALL, sets=["t0.SN.config.min_ndet=three", "t0.AGN.filter=x", "report=3"]
    ) == [
        "--set report=3: report: false or a mapping is needed, value 3",
        "--set t0.SN.config.min_ndet=three: t0[0].config.min_ndet: a whole number is needed, value 'three'",
        "--set t0.AGN.filter=x: t0 has 1 entry, and none is 'AGN'; known: SN",
    ]


def test_a_broken_file_of_conf_is_told_with_its_own_lines(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, text in (
        ("surveys", "name: ztf\naccess: {ZTF_PUB: one}\n"),
        ("calibrations", "nam: raw\n"),
    ):
        (folder / "conf" / kind).mkdir(parents=True)
        (folder / "conf" / kind / f"{'ztf' if kind == 'surveys' else 'raw'}.yml").write_text(text)
    monkeypatch.setenv("AMPEL_SPARK_CONF", str(folder / "conf"))
    assert problems(folder, SMALL) == [
        "conf/surveys/ztf.yml:2: access.ZTF_PUB: a whole number is needed, value 'one'",
        "conf/calibrations/raw.yml:1: nam: unknown key, value 'raw'; did you mean 'name'?",
        "conf/calibrations/raw.yml:1: required key 'name' is missing",
    ]


# --- what comes with the project


def test_the_survey_gives_the_data_rights_that_its_packets_have() -> None:
    assert load_survey("ztf").access == ACCESS


def test_every_calibration_and_survey_of_conf_is_right() -> None:
    releases = sorted((PROJECT / "conf" / "calibrations").glob("*.yml"))
    surveys = sorted((PROJECT / "conf" / "surveys").glob("*.yml"))
    assert releases
    assert surveys
    for file in releases:
        assert load_calibration(file.stem).name == file.stem
    for file in surveys:
        assert load_survey(file.stem).name == file.stem


@pytest.mark.parametrize(
    "file", sorted((PROJECT / "conf" / "dust").glob("*.yml")), ids=lambda p: p.stem
)
def test_every_dust_map_of_conf_says_what_its_file_is(file: Path) -> None:
    from ampel_spark.sky.dust import DustMap

    notes = yaml.safe_load(file.read_text())
    assert {"file", "ordering", "frame", "scale", "licence", "citation"} <= set(notes)
    if (file.parent / notes["file"]).exists():
        assert DustMap.read(file).nside >= 1
    else:
        with pytest.raises(ConfigError, match="is not there"):
            DustMap.read(file)


MASTERS = {
    "common": "local",
    "local": "local[2]",
    "local-cluster": "local-cluster[2,1,1536]",
    "standalone": "spark://localhost:7077",
    "yarn": "yarn",
    "k8s": "k8s://https://localhost:443",
}


@pytest.mark.parametrize(
    "file", sorted((PROJECT / "conf" / "spark").glob("*.conf")), ids=lambda p: p.stem
)
def test_the_settings_of_spark_leave_nothing_to_fill_in(file: Path) -> None:
    from ampel_spark.settings import settings

    assert all("${" not in value for value in settings(MASTERS[file.stem]).values())


#: What a job needs that set-up does not bring; tests/job/execution/test_dr1.py loads it.
BROUGHT = {
    "jla": {"t2[1].config": "model salt2/2.4 is not in"},
    "ztf_snia_dr1": {
        "t2[0].config.file": "there is no file",
        "t2[1].config": "dust map",
        "t2[2].config": "model salt2/2.4 is not in",
    },
}


@pytest.mark.parametrize("file", sorted((PROJECT / "jobs").glob("*.yml")), ids=lambda p: p.stem)
def test_every_job_of_the_project_is_right(file: Path) -> None:
    if lacking := BROUGHT.get(file.stem):
        with pytest.raises(DocumentError) as caught:
            load_job(file)
        told = [line.split(": ", 2)[1:] for line in str(caught.value).splitlines()]
        assert [where for where, _ in told] == [*lacking]
        assert all(what.startswith(lacking[where]) for where, what in told)
        return
    job = load_job(file)
    assert job.name == file.stem
    assert job.description
    assert str(PROJECT) not in job.canonical


def _xml(file: Path) -> bool:
    return ElementTree.parse(file).getroot().tag == "ivysettings"


def _lines(pattern: str) -> Callable[[Path], bool]:
    def check(file: Path) -> bool:
        lines = [line for line in file.read_text().splitlines() if line and line[0] != "#"]
        return bool(lines) and all(re.fullmatch(pattern, line) for line in lines)

    return check


#: What checks a file of conf that no other test here reads, by its path.
CHECKS = {
    "ivysettings.xml": _xml,
    "jars.sha256": _lines(r"[0-9a-f]{64}  \S+\.jar"),
    "build.cfg": _lines(r"\[bdist_wheel\]|compression = stored"),
    "model-data.txt": _lines(r"[\w-]+==[\d.]+ --hash=sha256:[0-9a-f]{64}"),
    "spark/log4j2.properties": _lines(r"[\w.]+ = .+"),
}


@pytest.mark.parametrize("path", sorted((PROJECT / "conf" / "catalogs").glob("*.yml")), ids=str)
def test_settings_of_a_catalogue_say_whose_work_it_is(path: Path) -> None:
    settings = load_settings(path.stem)
    assert settings.description
    assert settings.licence
    assert settings.citation


def test_every_file_of_conf_is_checked_by_a_test() -> None:
    others = {
        "calibrations": {".yml", ".csv"},
        "catalogs": {".yml"},
        "surveys": {".yml"},
        "events": {".yml"},
        "scores": {".yml"},
        "classifiers": {".yml"},
        "dust": {".yml", ".fits"},
        "recipes": {".yml"},
        "spark": {".conf"},
    }
    for file in (PROJECT / "conf").rglob("*"):
        path = file.relative_to(PROJECT / "conf").as_posix()
        if file.is_file() and path in CHECKS:
            assert CHECKS[path](file), path
        elif file.is_file():
            assert file.suffix in others.get(file.parent.name, ()), f"no test reads conf/{path}"


def test_a_catalogue_of_the_lake_is_pinned_and_its_columns_are_known(tmp_path: Path) -> None:
    from ampel_spark.lake.marker import mark
    from ampel_spark.sky.store import add

    lake = mark(tmp_path / "lake")
    table = pa.table({"ra": [1.0], "dec": [2.0], "z": [0.1]})
    add(lake, "galaxies", table)
    add(lake, "galaxies", table.append_column("mass", table["z"]))
    text = """
name: test
lake: lake
catalog:
  hosts: {lake: galaxies, version: 0, columns: [z]}
  heavy: {lake: galaxies, columns: [mass]}
channel: [{name: SN, access: [ZTF_PUB]}]
t0: [{channel: SN, filter: SimpleDecentFilter}]
t2:
- {unit: catalog_match, name: host, config: {catalog: hosts, radius: 5}}
- {unit: catalog_match, name: both, config: {catalogs: {hosts: {radius: 5}, heavy: {radius: 9}}}}
- {unit: redshift_digest, config: {matches: [both]}}
"""
    path = tmp_path / "job.yml"
    path.write_text(text)
    job = load_job(path)
    host, both, _ = job.units
    assert [c.name for c in host.columns] == ["matched", "distance", "n_within", "z"]
    assert "heavy_mass" in [c.name for c in both.columns]
    assert host.config["catalog"] == "hosts"
    assert {n: c.version for n, c in job.catalogs.items()} == {"hosts": 0, "heavy": 1}
    assert job.resolved["catalog"]["heavy"]["version"] == 1
    inputs = catalog_inputs(job.catalogs)
    assert inputs["hosts"].lake == "galaxies"
    assert inputs["hosts"].hash != inputs["heavy"].hash
    fit = "- {unit: salt_fit, config: {redshift: {unit: both, column: heavy_maas}, dust: null}}\n"
    path.write_text(text + fit)
    with pytest.raises(ConfigError, match=r"column 'heavy_maas' of 'both'.*mean 'heavy_mass'"):
        load_job(path)
    path.write_text(text.replace("version: 0", "version: 7").replace("[mass]", "[mas]"))
    with pytest.raises(ConfigError) as told:
        load_job(path)
    assert "has no version 7: it has 0 to 1" in str(told.value)
    assert "no column 'mas'; did you mean 'mass'" in str(told.value)


def test_a_survey_by_path_and_settings_of_ones_own_add_to_those_that_come_along(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (conf_dir() / "surveys" / "ztf.yml").read_text().replace("name: ztf", "name: mine")
    (folder / "own.yml").write_text(text)
    (folder / "conf" / "surveys").mkdir(parents=True)
    (folder / "conf" / "surveys" / "mine.yml").write_text(text)
    monkeypatch.setenv("AMPEL_SPARK_CONF", str(folder / "conf"))
    (folder / "job.yml").write_text(SMALL + "\nsurvey: own.yml\n")
    job = load_job(folder / "job.yml")
    assert (job.survey.name, job.resolved["survey"]) == ("mine", str(folder / "own.yml"))
    assert [load_survey(name).name for name in ("mine", "ztf")] == ["mine", "ztf"]
    with pytest.raises(ConfigError, match=r"'mien' in .*/conf/surveys or .*did you mean 'mine'"):
        load_survey("mien")
