"""The job's keys, and the times that a job can name."""

from __future__ import annotations

import datetime
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from ampel_spark.archive.reading.surveys import Survey, as_of_jd
from ampel_spark.errors import ConfigError
from ampel_spark.job.configuration.model import Job, Report, SimulationEntry

SMALL: dict[str, Any] = {
    "name": "small",
    "channel": [{"name": "SN", "access": ["ZTF_PUB"]}],
    "t0": [{"channel": "SN", "filter": "SimpleDecentFilter"}],
}
J2000 = datetime.date(2000, 1, 1)  # noon of which is JD 2451545.0


def refused(model: type[BaseModel], value: object) -> set[str]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(value)
    return {
        ".".join(str(key) for key in e["loc"] if not str(key).startswith("("))
        for e in caught.value.errors()
    }


def test_a_job_of_three_keys_has_defaults_for_all_others() -> None:
    job = Job.model_validate(SMALL)
    assert (job.survey, job.calibration, job.archive, job.lake) == ("ztf", "raw", None, None)
    assert (job.t1.states, job.t1.points) == ("latest", ("detection", "upper_limit"))
    assert (job.t2, job.t3) == ((), ())
    assert (job.t0[0].on_stock_match, job.t0[0].history, job.t0[0].gaia) == ("none", "packet", None)
    assert isinstance(job.report, Report)
    assert job.report.candidates == 50


def test_the_archive_is_a_path_some_paths_or_a_simulation() -> None:
    assert Job.model_validate(SMALL | {"archive": "a.tar.gz"}).archive == ("a.tar.gz",)
    assert Job.model_validate(SMALL | {"archive": ["a", "b"]}).archive == ("a", "b")
    simulated = Job.model_validate(SMALL | {"archive": {"simulate": {"alerts": 100}}}).archive
    assert simulated is not None
    assert not isinstance(simulated, tuple)
    assert simulated.simulate.alerts == 100
    assert refused(Job, SMALL | {"archive": []}) == {"archive"}
    assert refused(Job, SMALL | {"archive": 3}) == {"archive"}
    assert refused(Job, SMALL | {"archive": {"simulat": {}}}) == {
        "archive.simulat",
        "archive.simulate",
    }


def test_states_are_latest_of_alerts_or_as_of_times() -> None:
    assert Job.model_validate(SMALL | {"t1": {"states": "alert"}}).t1.states == "alert"
    times = {"as_of": [2458849.5, "2020-01-01", J2000]}
    states = Job.model_validate(SMALL | {"t1": {"states": times}}).t1.states
    assert not isinstance(states, str)
    assert states.as_of == (2458849.5, "2020-01-01", J2000)
    assert refused(Job, SMALL | {"t1": {"states": "newest"}}) == {"t1.states"}
    assert refused(Job, SMALL | {"t1": {"states": {"as_of": []}}}) == {"t1.states.as_of"}


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"nam": "x"}, "nam"),
        ({"name": "two words"}, "name"),
        ({"channel": []}, "channel"),
        ({"channel": [{"name": "S N", "access": ["ZTF_PUB"]}]}, "channel.0.name"),
        ({"channel": [{"name": "SN", "access": []}]}, "channel.0.access"),
        ({"t0": [{"channel": "SN", "filter": "X", "on_stock_match": "by"}]}, "t0.0.on_stock_match"),
        ({"t2": [{"unit": "x", "name": "Capital"}]}, "t2.0.name"),
        ({"t3": [{"channel": "SN", "limit": 0}]}, "t3.0.limit"),
        ({"t3": [{"channel": "SN", "limit": "10"}]}, "t3.0.limit"),  # text is no number
        ({"t3": [{"channel": "SN", "export": ["xlsx"]}]}, "t3.0.export.0"),
        ({"report": True}, "report"),
        ({"report": {"candidates": True}}, "report.candidates"),  # true is no number
    ],
)
def test_what_cannot_be_is_refused_at_its_place(changed: dict[str, Any], place: str) -> None:
    assert place in refused(Job, SMALL | changed)


def test_a_report_can_be_switched_off() -> None:
    assert Job.model_validate(SMALL | {"report": False}).report is False


def test_a_simulation_is_of_alerts_or_of_objects() -> None:
    assert SimulationEntry().alerts == 6000
    assert (SimulationEntry(objects=10).alerts, SimulationEntry(objects=10).objects) == (None, 10)
    assert refused(SimulationEntry, {"alerts": 10, "objects": 10}) == {""}


def test_a_night_is_included_to_its_end() -> None:
    # JD 2451545.0 is noon of 2000-01-01 (UTC), so that day ends at 2451545.5
    for night in (J2000, "2000-01-01", "20000101", 20000101):
        jd = as_of_jd(night)
        assert jd < 2451545.5
        assert math.nextafter(jd, math.inf) == 2451545.5


def test_a_night_ends_when_the_survey_says() -> None:
    chile = Survey(name="chile", night_starts=16.0, access={"ALL": 1})
    assert as_of_jd("2000-01-01", chile) == pytest.approx(2451545.5 + 16 / 24, abs=1e-8)


@given(st.floats(2_400_000.0, 2_600_000.0, exclude_max=True))
def test_a_jd_stays_what_it_is(jd: float) -> None:
    assert as_of_jd(jd) == as_of_jd(str(jd)) == jd


@pytest.mark.parametrize(
    "text", ["yesterday", "2020-13-01", "20200230", "12.5", "v3", "", "nan", "58849.0"]
)
def test_what_is_no_time_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match=r"YYYY-MM-DD"):
        as_of_jd(text)
