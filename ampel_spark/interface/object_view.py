"""An object of a lake as one run saw it: alerts, decisions, states, light curves, results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ampel_spark.errors import ConfigError, LakeError, nearest
from ampel_spark.interface.run_view import RunView
from ampel_spark.journal import journal
from ampel_spark.lake.decisions import decisions_of
from ampel_spark.lake.reading import read, struct_columns, table_names
from ampel_spark.lake.runs import catalogs_by_run, runs
from ampel_spark.t2.results import Results

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from ampel_spark.calibration.release import Release
    from ampel_spark.lake.runs import Run
    from ampel_spark.lightcurve import LightCurve
    from ampel_spark.t0.verdict import Alert

__all__ = ["ObjectView", "past"]

#: Class whose results describe a model that can be drawn.
_FIT = "salt_fit"


@dataclass(frozen=True)
class ObjectView:
    """One object, as far as the channels of a run may see it.

    Attributes
    ----------
    run : RunView
    stock : int
        AMPEL's id of the object.
    name : str
        The survey's name of it.
    access : mapping of str to frozenset of int
        The channels that are shown, and the program ids that each may see.

    Examples
    --------
    >>> import ampel_spark as aps
    >>> lake = aps.open("lake")
    >>> name = lake.run("latest").candidates("bright")["name"][0].as_py()
    >>> found = lake.object(name)
    >>> found.name == name, len(found.light_curve().detections) > 1
    (True, True)
    """

    run: RunView
    stock: int
    name: str
    access: Mapping[str, frozenset[int]]

    @classmethod
    def of(cls, run: RunView, name: str | int, channel: str | None = None) -> ObjectView:
        """Return an object by the survey's name of it, or its stock id.

        Parameters
        ----------
        run : RunView
        name : str or int
        channel : str, optional
            What this channel knows; by default any.

        Raises
        ------
        LakeError
            If no channel may see an alert of such an object.
        ConfigError
            If the run has no such channel.
        """
        access = run.access(channel)
        is_stock = isinstance(name, int) or name.lstrip("-").isdecimal()
        wanted = pc.field("stock") == int(name) if is_stock else pc.field("name") == name
        alerts = _alerts(run, access, wanted, ["stock", "name"])
        if not len(alerts):
            who = f"channel {channel}" if channel else f"one of the channels {', '.join(access)}"
            raise LakeError(
                f"no object {name!r} in lake {run.lake} of which {who} may see an alert in run "
                f"{run.id}"
            )
        return cls(run, alerts["stock"][0].as_py(), alerts["name"][0].as_py(), access)

    def __repr__(self) -> str:
        return f"<object {self.name} (stock {self.stock}) in run {self.run.id}>"

    @property
    def alerts(self) -> pa.Table:
        """Its alerts as the run saw them, in order of time.

        Examples
        --------
        >>> import ampel_spark as aps
        >>> lake = aps.open("lake")
        >>> name = lake.run("latest").candidates("bright")["name"][0].as_py()
        >>> times = lake.object(name).alerts["jd"].to_pylist()
        >>> times == sorted(times)
        True
        """
        return _alerts(self.run, self.access, self._mine())

    def alert(self, alert_id: int | None = None, channel: str | None = None) -> Alert:
        """Return an alert as a filter in Python sees it, for `Filter.verdict` and `Filter.judge`.

        Parameters
        ----------
        alert_id : int, optional
            One of its `alerts`; by default the newest.
        channel : str, optional
            The channel whose data rights, history and photometry count; by default the first.

        Raises
        ------
        ConfigError
            If the object is shown to no such channel, or the channel sees no such alert.

        Examples
        --------
        >>> import ampel_spark as aps
        >>> from ampel_spark.t0 import SimpleDecentFilter
        >>> lake = aps.open("lake")
        >>> name = lake.run("latest").candidates("sn_ia")["name"][0].as_py()
        >>> alert = lake.object(name).alert(channel="SN")
        >>> len(alert.light_curve.detections) == alert.n_detections
        True
        >>> SimpleDecentFilter(min_ndet=1000).verdict(alert).cut
        'min_ndet'
        """
        from ampel_spark.calibration.alerts import calibrated_alert
        from ampel_spark.t0.explain import history_of
        from ampel_spark.t0.quantities import OwnQuantities
        from ampel_spark.t0.verdict import Alert

        channel = self._channel(channel)
        step, rights = self.run.record.filters[channel], self.access[channel]
        rows = [r for r in self.alerts.to_pylist() if r["programid"] in rights]
        at = [i for i, row in enumerate(rows) if alert_id in (None, row["alert_id"])]
        if not at:
            raise ConfigError(f"channel {channel} sees no alert {alert_id} of {self.name}")
        row, earlier = rows[at[-1]], rows[: at[-1]]
        release = self.run.release() if step.get("photometry") == "calibrated" else None
        curve = past(self.run.lake, self.run.record, row, rights, step["history"], release)
        history = history_of(row, earlier, rights, step["history"])
        if release is not None:
            row = calibrated_alert(row, release)
        fields = struct_columns(self.run.lake, "alerts").get(row["survey"], ())
        own = OwnQuantities(row["survey"], {field.name: field.type for field in fields})
        return Alert({**row, **history}, curve, own)

    @property
    def decisions(self) -> pa.Table:
        """What the channels decided of its alerts, in order of time."""
        found = decisions_of(self.run.lake, self.run.record, self.access, self._mine())
        return found.sort_by([("jd", "ascending"), ("channel", "ascending")])

    @cached_property
    def states(self) -> pa.Table:
        """Its states, one row for each that a channel wanted: ``state_channels`` and ``states``.

        Examples
        --------
        >>> import ampel_spark as aps
        >>> lake = aps.open("lake")
        >>> name = lake.run("latest").candidates("bright")["name"][0].as_py()
        >>> {"channel", "state_id", "calibration", "n_detections"} <= {
        ...     *lake.object(name).states.column_names
        ... }
        True
        """
        links = self._of_run("state_channels")
        ids = pc.unique(links["state_id"])
        content = read(self.run.lake, "states", filters=pc.field("state_id").isin(ids))
        place = pc.index_in(links["state_id"], value_set=content["state_id"])
        mine = content.drop_columns(["datapoint_ids"]).take(place)
        joined = links
        for name in mine.column_names:
            if name not in links.column_names:
                joined = joined.append_column(name, mine[name])
        order = [("channel", "ascending"), ("as_of_jd", "ascending"), ("alert_id", "ascending")]
        states: pa.Table = joined.sort_by(order)
        return states

    @property
    def journal(self) -> list[dict[str, Any]]:
        """Its story in order of time, as ``ampel-spark object`` prints it.

        Examples
        --------
        >>> import ampel_spark as aps
        >>> lake = aps.open("lake")
        >>> name = lake.run("latest").candidates("bright")["name"][0].as_py()
        >>> sorted({entry["kind"] for entry in lake.object(name).journal})
        ['alert', 'candidate', 'decision', 'result', 'state']
        """
        return journal(self.run.lake, str(self.stock), self.run.record, self.access)

    def results(self, state: str | None = None, channel: str | None = None) -> dict[str, Any]:
        """Return the results of the run's units on a state: the row of each unit, by its name.

        Parameters
        ----------
        state : str, optional
            The state's id, or the beginning of it; by default the newest state.
        channel : str, optional
            A state of this channel.

        Raises
        ------
        LakeError
            If there is no such state.

        Examples
        --------
        >>> import ampel_spark as aps
        >>> lake = aps.open("lake")
        >>> name = lake.run("latest").candidates("bright")["name"][0].as_py()
        >>> lake.object(name).results()["light_curve_summary"]["status"]
        0
        """
        wanted = self._state(state, channel)["state_id"]
        there, run = table_names(self.run.lake), self.run
        tables = {
            unit: read(run.lake, f"t2_{unit}", filters=pc.field("state_id") == wanted)
            for unit in run.units
            if f"t2_{unit}" in there
        }
        found = Results(tables, catalogs_by_run(runs(run.lake)))
        rows = {unit: found.used(run.record, unit, wanted) for unit in run.units}
        return {unit: row for unit, row in rows.items() if row is not None}

    def light_curve(self, state: str | None = None, channel: str | None = None) -> LightCurve:
        """Return the light curve of a state, calibrated and rounded, as units saw it.

        Parameters
        ----------
        state : str, optional
            The state's id, or the beginning of it; by default the newest state.
        channel : str, optional
            A state of this channel.

        Returns
        -------
        LightCurve
            With the results of the run's units on it.

        Raises
        ------
        LakeError
            If there is no such state, or its light curve can no longer be made.

        Examples
        --------
        >>> import ampel_spark as aps
        >>> lake = aps.open("lake")
        >>> name = lake.run("latest").candidates("bright")["name"][0].as_py()
        >>> curve = lake.object(name).light_curve()
        >>> curve.state_id in lake.object(name).states["state_id"].to_pylist()
        True
        """
        from ampel_spark.t1.rebuild import ALERT_COLUMNS, POINT_COLUMNS, rebuild
        from ampel_spark.t1.rights import SIGHTING_COLUMNS

        found = self._state(state, channel)
        survey, lake = found["survey"], self.run.lake
        own = struct_columns(lake, "datapoints", found["datapoints_version"]).get(survey, ())
        more = [survey] if own else []
        rows = {
            "alerts": (ALERT_COLUMNS, self._known(), found["alerts_version"]),
            "datapoints": ((*POINT_COLUMNS, *more), self._mine(), found["datapoints_version"]),
        }
        before = self.run.record.inputs.tables.get("sightings")
        if before is not None:
            rows["sightings"] = ((*SIGHTING_COLUMNS, *more), self._mine(), before)
        alerts, points, *sightings = (
            read(lake, name, list(columns), filters, version=version).to_pylist()
            for name, (columns, filters, version) in rows.items()
        )
        types = {field.name: field.type for field in own}
        curve = rebuild(found, found, alerts, points, self.run.release(), types, *sightings)
        return replace(curve, results=self.results(found["state_id"]))

    def plot(
        self,
        state: str | None = None,
        channel: str | None = None,
        *,
        scale: str = "mag",
        figure: Figure | SubFigure | None = None,
    ) -> Axes:
        """Draw the light curve of a state: detections, limits, forced photometry, the fitted model.

        Parameters
        ----------
        state, channel
            As for `light_curve`.
        scale : str
            ``mag``, or ``flux`` (with its sign, in µJy; upper limits are not drawn).
        figure : Figure or SubFigure, optional
            Where to draw; by default a new figure of pyplot.

        Returns
        -------
        Axes
            Those of the light curve; residuals have axes of their own below.

        Raises
        ------
        LakeError
            If there is no such state.

        Examples
        --------
        >>> import ampel_spark as aps
        >>> from matplotlib.figure import Figure
        >>> lake = aps.open("lake")
        >>> name = lake.run("latest").candidates("bright")["name"][0].as_py()
        >>> lake.object(name).plot(figure=Figure()).get_ylabel()
        'magnitude (AB)'
        """
        from ampel_spark.t3.plots import plot_light_curve
        from ampel_spark.t3.report import fitted_model, lacking

        curve = self.light_curve(state, channel)
        units = self.run.units
        for unit, row in curve.results.items():
            if units[unit]["unit"] == _FIT and row["status"] >= 0 and not lacking(row):
                bands = [str(band) for band in row["bands"] or ()]
                return plot_light_curve(
                    curve, fitted_model(row), t0=row["t0"], bands=bands, scale=scale, figure=figure
                )
        return plot_light_curve(curve, scale=scale, figure=figure)

    def _state(self, state: str | None, channel: str | None) -> dict[str, Any]:
        """Return the row of `states` that is asked for, the newest of those that fit.

        Raises
        ------
        LakeError
            If there is none.
        """
        rows = self.states.to_pylist()
        channels = list(self.access) if channel is None else [self._channel(channel)]
        fitting = [
            row
            for row in rows
            if row["channel"] in channels and row["state_id"].startswith(state or "")
        ]
        if not fitting:
            ids = dict.fromkeys(row["state_id"] for row in rows)
            which = "no state" if state is None else f"no state {state!r}"
            there = f"; there are {', '.join(ids)}" if ids else ": no channel accepted an alert"
            raise LakeError(f"run {self.run.id} has {which} of {self.name}{there}")

        def newest(row: Mapping[str, Any]) -> tuple[Any, ...]:
            bound = row["as_of_jd"]
            return (
                bound is None,
                bound or 0.0,
                row["as_of_alert_id"] or 0,
                -channels.index(row["channel"]),
            )

        return max(fitting, key=newest)

    def _channel(self, channel: str | None) -> str:
        """Return a channel that the object is shown to, by default the first."""
        if channel is not None and channel not in self.access:
            raise ConfigError(
                f"{self!r} is shown to no channel {channel!r}{nearest(channel, self.access)}"
            )
        return next(iter(self.access)) if channel is None else channel

    def _mine(self) -> pc.Expression:
        return pc.field("stock") == self.stock

    def _known(self) -> pc.Expression:
        """Return which of the object's alerts the run counted: those up to its own time."""
        until = self.run.record.inputs.as_of_jd
        return self._mine() if until is None else self._mine() & (pc.field("jd") <= until)

    def _of_run(self, name: str) -> pa.Table:
        mine = (pc.field("run_id") == self.run.id) & pc.field("channel").isin([*self.access])
        return read(self.run.lake, name, filters=mine & self._mine())


def past(
    lake: Path,
    run: Run,
    alert: Mapping[str, Any],
    rights: frozenset[int],
    history: str,
    release: Release | None = None,
) -> LightCurve:
    """Return what a channel may see of an alert's object up to the alert, in a run's tables.

    Parameters
    ----------
    lake : Path
        The lake's root.
    run : Run
        Its versions of the tables are read.
    alert : mapping
        Row of the table ``alerts``.
    rights : frozenset of int
        Program ids that the channel may see.
    history : str
        ``packet`` or ``archive``.
    release : Release, optional
        The calibration release to apply; by default none.
    """
    from ampel_spark.t1.pasts import ALERT_COLUMNS, pasts
    from ampel_spark.t1.rights import SIGHTING_COLUMNS
    from ampel_spark.t1.states import POINT_COLUMNS

    mine, versions = pc.field("stock") == alert["stock"], run.inputs.tables
    columns = {"datapoints": POINT_COLUMNS, "alerts": ALERT_COLUMNS}
    if versions.get("sightings") is not None:
        columns["sightings"] = SIGHTING_COLUMNS
    points, alerts, *more = (
        read(lake, name, [*names], mine, version=versions.get(name))
        for name, names in columns.items()
    )
    sightings = more[0] if more else None
    return pasts([alert], points, alerts, sightings, history == "packet", rights, release)[0]


def _alerts(
    run: RunView,
    access: Mapping[str, frozenset[int]],
    wanted: pc.Expression,
    columns: list[str] | None = None,
) -> pa.Table:
    """Return alerts that a run saw and one of its channels may see, in order of time."""
    rights = frozenset[int]().union(*access.values())
    wanted = wanted & pc.field("programid").isin(sorted(rights))
    until = run.record.inputs.as_of_jd
    if until is not None:
        wanted = wanted & (pc.field("jd") <= until)
    names = None if columns is None else [*columns, "jd", "alert_id"]
    rows = read(run.lake, "alerts", names, wanted, version=run.record.inputs.tables.get("alerts"))
    return rows.sort_by([("jd", "ascending"), ("alert_id", "ascending")])
