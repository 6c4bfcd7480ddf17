"""What the Python interface shows of a lake is what its runs recorded and its units saw."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import ampel_spark as aps
from ampel_spark.errors import ConfigError, LakeError, SetupError, UnitError
from ampel_spark.interface.lake_view import LakeView
from ampel_spark.lake.reading import read
from ampel_spark.lightcurve import POINT_FIELDS, LightCurve
from ampel_spark.t2.results import HEAD
from ampel_spark.t2.unit import Column, Refusal, Unit
from tests.old_lakes import RUNS

SN = "ZTF24aaaicwk"


@pytest.fixture(scope="module")
def lake(examples: Path) -> LakeView:
    return aps.open(examples / "lake")


def test_importing_the_package_imports_nothing_else() -> None:
    code = (
        "import sys; before = {*sys.modules}; import ampel_spark; ampel_spark.__all__;"
        "new = {m.split('.')[0] for m in {*sys.modules} - before};"
        "print(sorted(new - sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['ampel_spark']"


def test_no_spark_is_imported_to_look_at_a_lake(examples: Path) -> None:
    code = f"""
import sys
import ampel_spark as aps
found = aps.open({str(examples / "lake")!r}).object({SN!r})
found.plot()
aps.fit(found.light_curve(), "light_curve_summary")
found.journal, found.run.results("salt_fit"), found.light_curve().to_table()
assert "pyspark" not in sys.modules
"""
    env = {"MPLBACKEND": "agg"}
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=env)


def test_names_that_the_package_exports_are_there() -> None:
    assert {*aps.__all__} <= {*dir(aps)}
    assert all(getattr(aps, name) is not None for name in aps.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'opne'"):
        aps.opne  # noqa: B018


def test_a_folder_that_is_no_lake_is_told_as_by_the_commands(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="is an empty folder: name another"):
        aps.open(tmp_path)


def test_every_light_curve_is_that_of_its_state(lake: LakeView) -> None:
    n = 0
    for run in lake.runs():
        links = lake.table("state_channels", where={"run_id": run.id}).arrow().to_pylist()
        for link in links:
            found = lake.object(link["stock"], run)
            curve = found.light_curve(link["state_id"], link["channel"])
            state = read(lake.path, "states").to_pylist()
            (ids,) = (s["datapoint_ids"] for s in state if s["state_id"] == link["state_id"])
            assert curve.state_id == link["state_id"]
            assert sorted(curve.datapoint_id.tolist()) == ids
            assert [*curve.points] == [*POINT_FIELDS]
            n += 1
    assert n > 30


def test_a_release_is_in_the_light_curve(lake: LakeView) -> None:
    raw, shifted = (lake.object(SN, run).light_curve() for run in RUNS[:2])
    green = (raw.band == "ztfg") & np.isfinite(raw.mag)
    assert np.allclose(shifted.mag[green] - raw.mag[green], 0.010, atol=2e-6)
    assert np.array_equal(shifted.mag[~green], raw.mag[~green], equal_nan=True)
    assert raw.state_id != shifted.state_id


def test_results_are_those_that_the_run_used(lake: LakeView) -> None:
    fits = {run: lake.object(SN, run).results()["salt_fit"] for run in RUNS}
    stored = {
        run: lake.run(run).results("salt_fit", ["name", "z", "x1"]).to_pylist() for run in RUNS
    }
    for run in RUNS:
        (row,) = (row for row in stored[run] if row["name"] == SN)
        assert (row["z"], row["x1"]) == (fits[run]["z"], fits[run]["x1"])
    # the last run found no host within an arcsecond: same trace, another redshift
    assert fits[RUNS[0]]["trace_id"] == fits[RUNS[2]]["trace_id"]
    assert fits[RUNS[0]]["z"] != fits[RUNS[2]]["z"]


def test_a_unit_gives_in_python_what_it_gave_in_the_run(lake: LakeView) -> None:
    run = lake.run(RUNS[0])
    names = [name for name, entry in run.units.items() if "SN" in entry["channel"]]
    assert "salt_fit" in names
    curve = lake.object(SN, run).light_curve(channel="SN")
    for name in ("light_curve_summary", "salt_fit"):
        result = aps.fit(curve, name, **run.units[name]["config"])
        for column, value in curve.results[name].items():
            if column not in HEAD and isinstance(value, float):
                assert result.values[column] == pytest.approx(value, rel=1e-6), column
        assert (result.status, result.name) == (0, SN)


class Peak(Unit):
    """Brightest magnitude."""

    at_least: int = 1

    columns = (Column("peak", "double", "mag", "brightest"),)

    def process(self, light_curve: LightCurve) -> dict[str, float]:
        if len(light_curve) < self.at_least:
            raise Refusal(f"{len(light_curve)} points, {self.at_least} needed", 7)
        if light_curve.name == "bad":
            raise ValueError("no good")
        return {"peak": float(np.nanmin(light_curve.mag))}


def curve(name: str, n: int = 3) -> LightCurve:
    jd = 2459000.5 + np.arange(n)
    return LightCurve.of(name, jd=jd, mag=18.0 + np.arange(n), magerr=0.1, band="ztfr")


def test_several_light_curves_have_a_result_each_whatever_befalls_one() -> None:
    found = aps.fit([curve("a"), curve("bad"), curve("few", 1)], Peak, at_least=2)
    assert [(r.name, r.status, r.message, r.peak) for r in found] == [
        ("a", 0, "", 18.0),
        ("bad", -4, "ValueError: no good", None),
        ("few", 7, "1 points, 2 needed", None),
    ]
    assert [r.good for r in found] == [True, False, False]
    assert aps.fit([], Peak) == []
    assert aps.fit(curve("a"), Peak(at_least=3)).good
    with pytest.raises(AttributeError, match="the result of Peak has no 'peek': peak"):
        found[0].peek  # noqa: B018


def test_a_mistake_in_what_is_fitted_names_its_cure() -> None:
    with pytest.raises(ConfigError, match=r"unit 'Peak': config\.at_last .*mean 'at_least'"):
        aps.fit(curve("a"), Peak, at_last=2)
    with pytest.raises(ConfigError, match="has its parameters already"):
        aps.fit(curve("a"), Peak(), at_least=2)
    with pytest.raises(UnitError, match="did you mean 'salt_fit'"):
        aps.fit(curve("a"), "salt_fti")


def test_tables_are_read_at_a_version_or_as_of_a_time(lake: LakeView) -> None:
    alerts = lake.table("alerts", columns=["alert_id", "jd"])
    early = lake.table("alerts", as_of=2460380.0, columns=["alert_id", "jd"])
    assert 0 < len(early) < len(alerts)
    assert max(early.pandas().jd) <= 2460380.0
    assert len(lake.table("datapoints", as_of="2024-03-05")) < len(lake.table("datapoints"))
    assert lake.table("alerts", as_of="v1").version == 1
    assert len(lake.table("alerts", version=0)) == 0
    assert len(lake.table("states", where={"name": [SN, "nobody"]})) == 2
    assert len(lake.table("archive_files", where={"night_first": None})) == 0
    for wrong, message in (
        ({"name": "alrets"}, "did you mean 'alerts'"),
        ({"name": "alerts", "columns": ["jdd"]}, "no column 'jdd'; did you mean 'jd'"),
        ({"name": "alerts", "where": {"stok": 1}}, "no column 'stok'; did you mean 'stock'"),
        ({"name": "alerts", "version": 99}, "no version 99: it goes from 0 to 1"),
        ({"name": "alerts", "version": 1, "as_of": "v1"}, "a version or as_of, not both"),
        ({"name": "states", "as_of": 2460380.0}, "no time of the survey"),
        ({"name": "states", "as_of": "v1"}, "none of the archive's"),
        ({"name": "alerts", "as_of": "soon"}, "neither a JD"),
    ):
        with pytest.raises((LakeError, ConfigError), match=message):
            lake.table(wrong.pop("name"), **wrong)  # type: ignore[arg-type]


def test_without_duckdb_its_relation_says_how_to_have_it(
    lake: LakeView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(SetupError, match="`pip install duckdb`"):
        lake.table("states").duckdb()


def test_a_duckdb_relation_has_the_same_rows(lake: LakeView) -> None:
    pytest.importorskip("duckdb")
    view = lake.table("states", columns=["name", "n_detections"], where={"name": SN})
    rows = view.duckdb().fetchall()
    assert sorted(rows) == sorted(tuple(row.values()) for row in view.arrow().to_pylist())


@pytest.mark.spark
def test_a_spark_frame_has_the_same_rows(lake: LakeView, spark: object) -> None:
    view = lake.table("alerts", as_of=2460380.0, columns=["alert_id"],
                      where={"programid": [1, 2], "survey": "ztf", "stock": 2280679})  # fmt: skip
    rows = view.spark(spark).toArrow()["alert_id"].to_pylist()  # type: ignore[arg-type]
    assert rows
    assert sorted(rows) == sorted(view.arrow()["alert_id"].to_pylist())


def test_an_object_is_shown_as_far_as_its_channels_may_see_it(lake: LakeView) -> None:
    found = lake.object(SN)
    assert {*found.alerts["programid"].to_pylist()} == {1}
    assert {*found.decisions["channel"].to_pylist()} == {"SN", "Bright"}
    assert {*lake.object(SN, channel="SN").states["channel"].to_pylist()} == {"SN"}
    hidden = lake.table("alerts", columns=["stock", "programid"]).pandas()
    seen = {*hidden[hidden.programid == 1].stock}
    if apart := {*hidden.stock} - seen:
        with pytest.raises(LakeError, match="may see an alert"):
            lake.object(int(apart.pop()))
    for wrong, message in (
        ({"name": "ZTF99aaaaaaa"}, "no object 'ZTF99aaaaaaa'"),
        ({"name": SN, "run": "nothing"}, "has no run 'nothing'"),
        ({"name": SN, "channel": "Brigth"}, "no channel 'Brigth'; did you mean 'Bright'"),
    ):
        with pytest.raises((LakeError, ConfigError), match=message):
            lake.object(**wrong)  # type: ignore[arg-type]
    with pytest.raises(LakeError, match="no state 'ffff' of ZTF24aaaicwk; there are "):
        found.light_curve("ffff")
    with pytest.raises(ConfigError, match="no selection 'sn_ib'; did you mean 'sn_ia'"):
        lake.run().candidates("sn_ib")
    with pytest.raises(ConfigError, match="no unit 'salt'"):
        lake.run().results("salt")


def test_a_plot_has_the_model_where_there_is_a_fit(lake: LakeView) -> None:
    figure = Figure()
    axes = lake.object(SN).plot(figure=figure)
    assert len(figure.axes) == 2  # the light curve and its residuals
    assert axes.get_ylabel() == "magnitude (AB)"
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    fitted = {*lake.run().results("salt_fit", ["name"])["name"].to_pylist()}
    (other, *_) = {*lake.run().candidates("bright")["name"].to_pylist()} - fitted
    plain = Figure()
    assert lake.object(other).plot(figure=plain, scale="flux").get_ylabel() == "flux [µJy]"
    assert len(plain.axes) == 1
