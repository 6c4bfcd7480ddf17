"""In what two records differ."""

from __future__ import annotations

import json
from typing import Any

from ampel_spark.job.comparison.changes import Difference
from ampel_spark.job.comparison.differences import (
    filter_changes,
    run_differences,
    summary,
    trace_changes,
)
from ampel_spark.lake.runs import Run, UnitTrace, utc_now
from tests.job.comparison.lakes import job, traces


def run(**changes: Any) -> Run:
    row = {"calibration": "raw", "job_resolved": job(), "inputs": {"alerts": 1}}
    row |= {"traces": traces(), "software": {"numpy": "2.4", "java": "17"}, "git_commit": "abc"}
    row = {k: v if isinstance(v, str) else json.dumps(v) for k, v in (row | changes).items()}
    return Run.from_row(row | {"run_id": "r", "started": utc_now()})


def test_equal_runs_do_not_differ() -> None:
    assert run_differences(run(), run()) == []


def test_every_part_of_a_record_is_looked_at() -> None:
    other = run(
        calibration="zp",
        inputs={"alerts": 2, "as_of_jd": 2460000.5},
        software={"numpy": "2.5", "java": "17"},
        git_commit="def",
        job_resolved=job(limit=None),
    )
    assert run_differences(run(), other) == [
        Difference("calibration", "release", "raw", "zp"),
        Difference("job", "t3.best.limit", "6", "–"),
        Difference("inputs", "alerts", "1", "2"),
        Difference("inputs", "as_of_jd", "–", "2460000.5"),
        Difference("software", "numpy", "2.4", "2.5"),
        Difference("git", "commit", "abc", "def"),
    ]


def test_an_entry_put_in_between_is_no_change_of_the_next() -> None:
    more = job()
    more["t2"].insert(0, {"unit": "u", "name": "extra", "channel": ["SN"], "config": {}})
    names = [d.name for d in run_differences(run(), run(job_resolved=more))]
    assert names == ["t2.extra.unit", "t2.extra.name", "t2.extra.channel", "t2.extra.config"]


def test_a_trace_differs_in_parameters_code_files_and_libraries() -> None:
    before = traces()["t2"]["fit"] | {
        "class": "Fit",
        "files": [{"name": "m.dat", "sha256": "1" * 64}],
    }
    after = before | {
        "trace_id": "other",
        "parameters": {"phase": 20, "new": None},
        "code": {"my": "c0de2", "helpers": "beef"},
        "files": [{"name": "m.dat", "sha256": "2" * 64}],
        "libraries": {"numpy": "2.5"},
    }
    changes = trace_changes("fit", UnitTrace.from_json(before), UnitTrace.from_json(after))
    assert [(c.name, c.before, c.after) for c in changes] == [
        ("parameter phase", "30", "20"),
        ("code of my", "c0de", "c0de2"),
        ("file 1 (m.dat)", "1111111111", "2222222222"),
        ("version of numpy", "2.4", "2.5"),
        ("code of helpers", "–", "beef"),
    ]
    assert summary(changes, 2) == "parameter phase 30 → 20; code of my; and 3 more"


def test_a_unit_of_one_job_only_is_told() -> None:
    assert trace_changes("fit", None, UnitTrace("x")) == [
        Difference("T2 fit", "unit", "–", "in the job")
    ]
    assert trace_changes("fit", None, None) == []


def test_a_filter_with_the_same_parameters_may_have_other_code() -> None:
    other = run(traces=traces("changed"))
    (change,) = filter_changes(run(), other, "SN", "SN")
    assert change.name == "code or catalogue of the filter"
    assert filter_changes(run(), run(), "SN", "SN") == []


def test_data_rights_are_part_of_a_filter() -> None:
    wider = job()
    wider["channel"][0]["access"] = ["ZTF_PUB", "ZTF_PRIV"]
    (change,) = filter_changes(run(), run(job_resolved=wider), "SN", "SN")
    assert (change.name, change.after) == ("access", "ZTF_PUB, ZTF_PRIV")


def test_a_release_counts_where_a_channel_judges_calibrated_photometry() -> None:
    asked = job()
    assert filter_changes(run(), run(calibration="zp"), "SN", "SN") == []
    asked["t0"][0]["photometry"] = "calibrated"
    before, after = run(job_resolved=asked), run(job_resolved=asked, calibration="zp")
    assert summary(filter_changes(before, after, "SN", "SN")) == "release raw → zp"
