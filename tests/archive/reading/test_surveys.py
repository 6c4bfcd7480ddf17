"""Surveys' settings: those that come with the project are right, and mistakes are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sncosmo
from pydantic import ValidationError

from ampel_spark.archive.reading.readers import name_patterns
from ampel_spark.archive.reading.surveys import Source, Survey
from ampel_spark.errors import ConfigError
from ampel_spark.job.configuration.load import conf_dir, load_survey

BUILT_IN = sorted(p.stem for p in (conf_dir() / "surveys").glob("*.yml"))


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_projects_surveys_can_be_read_and_name_what_sncosmo_knows(name: str) -> None:
    from sncosmo.bandpasses import _BANDPASS_INTERPOLATORS, _BANDPASSES
    from sncosmo.magsystems import _MAGSYSTEMS

    survey = load_survey(name)
    assert survey.name == name
    assert name_patterns(survey)
    bands = set()
    if survey.photometry is not None:
        bands = set(survey.photometry.band.names.values())
        systems = survey.photometry.zpsys.names.values()
        assert set(systems) <= {key for key, _ in _MAGSYSTEMS._loaders} | {"jla1"}
    if survey.packets is not None:
        bands = set(survey.packets.bands.values())
    known = {key[0] for r in (_BANDPASSES, _BANDPASS_INTERPOLATORS) for key in r._loaders}
    assert bands <= known
    assert sncosmo.__version__


def test_a_word_is_a_column_and_a_number_a_value() -> None:
    table = {"object": "name", "time": "jd", "band": "b", "mag": "m", "magerr": 0.1}
    survey = Survey.model_validate(
        {"name": "s", "reader": "photometry", "access": {"A": 1}, "photometry": table}
    )
    assert survey.photometry is not None
    assert survey.photometry.mag == Source(column="m")
    assert survey.photometry.magerr == Source(value=0.1)
    assert name_patterns(survey)[:3] == ("*.csv", "*.tsv", "*.ecsv")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("reader: photometri", r"1: reader: .*did you mean 'photometry'\?"),
        ("reader: photometry", "lacks a section 'photometry'"),
        ("photometry: {object: n, time: t, band: b}", "give either 'flux'"),
        ("photometry: {object: n, time: t, band: b, flux: f, fluxerr: e}", "'flux' needs 'zp'"),
        ("photometry: {objekt: n, time: t, band: b, mag: m, magerr: e}",
         r"unknown key, value 'n'; did you mean 'object'\?"),
        ("photometry: {object: {file: 'SN'}, time: t, band: b, mag: m, magerr: e}",
         "give a pattern with one group in parentheses"),
        ("photometry: {object: {file: '(SN)', meta: SN}, time: t, band: b, mag: m, magerr: e}",
         "give exactly one of column, meta, file, path, value, not meta and file"),
        ("photometry: {object: n, time: t, band: b, mag: m, magerr: e, ra: ra}", "both 'ra' and"),
        ("photometry: {object: n, time: t, band: b, mag: m, magerr: e, programid: 2}",
         "no data right lets see program id 2"),
        ("photometry: {object: n, time: t, band: b, mag: m, magerr: e,"
         " unusable: [{column: f, bits: 1, values: [2]}]}", "exactly one of bits, values and"),
        ("columns: {alerts: {stock: {from: a, type: int, comment: c}}}",
         "stock is a column that all alerts have"),
        ("columns: {points: {rb: {from: a, type: int, comment: c},"
         " RB: {from: a, type: int, comment: c}}}", "RB is there twice"),
        ("columns: {points: {rb: {from: a, type: real, comment: c}}}", "'boolean', 'int'"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_file_and_cure(
    text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "surveys"
    folder.mkdir()
    reader = "" if text.startswith("reader") else "reader: photometry\n"
    (folder / "mine.yml").write_text(f"{text}\n{reader}name: mine\naccess: {{ALL: 1}}\n")
    monkeypatch.setenv("AMPEL_SPARK_CONF", str(tmp_path))
    with pytest.raises(ConfigError, match=rf"mine\.yml:.*{told}"):
        load_survey("mine")


def test_a_section_of_another_reader_is_refused() -> None:
    spec = load_survey("lsst").packets
    assert spec is not None
    packets: dict[str, Any] = spec.model_dump()
    with pytest.raises(ValidationError, match="has a section 'packets'"):
        Survey.model_validate({"name": "s", "access": {"A": 1}, "packets": packets})
