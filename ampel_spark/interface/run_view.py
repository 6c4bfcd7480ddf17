"""A recorded run: what it read, what it counted, and what it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampel_spark.errors import ConfigError, nearest
from ampel_spark.lake.reading import check_columns, open_table, read, table_names
from ampel_spark.lake.runs import Counts, Run, find_run
from ampel_spark.lake.tables import TABLES

if TYPE_CHECKING:
    import pyarrow as pa

    from ampel_spark.calibration.release import Release
    from ampel_spark.lightcurve import LightCurve
    from ampel_spark.t3.sample import Sample

__all__ = ["RunView"]


@dataclass(frozen=True)
class RunView:
    """One run of a lake.

    Attributes
    ----------
    lake : Path
        Root of the lake.
    record : Run
        Its record: inputs, traces, counts and all else.

    Examples
    --------
    >>> import ampel_spark as aps
    >>> run = aps.open("lake").run("latest")
    >>> run.job, run.status
    ('quickstart', 'good')
    >>> run.counts.t3["bright"]["candidates"] == run.candidates("bright").num_rows
    True
    """

    lake: Path
    record: Run

    @classmethod
    def of(cls, lake: Path, text: str) -> RunView:
        """Return a run of a lake by its id, the beginning of one, or ``latest``.

        Raises
        ------
        LakeError
            If there is none, or more than one.
        """
        return cls(lake, find_run(lake, text))

    def __repr__(self) -> str:
        return f"<run {self.id}: {self.status}>"

    @property
    def id(self) -> str:
        """The run's id."""
        return self.record.run_id

    @property
    def job(self) -> str:
        """Name of its job."""
        return self.record.job

    @property
    def status(self) -> str:
        """``good``, ``partial`` (some objects ended in an exception), ``failed``, ``running`` or
        ``killed``.
        """
        return self.record.status

    @property
    def calibration(self) -> str:
        """Name of the calibration release."""
        return self.record.calibration

    @property
    def counts(self) -> Counts:
        """What went into each tier and came out: ``archive``, ``t0``, ``t1``, ``t2``, ``t3``."""
        return self.record.counts

    @property
    def channels(self) -> list[str]:
        """Names of its channels.

        Examples
        --------
        >>> import ampel_spark as aps
        >>> aps.open("lake").run("latest").channels
        ['SN', 'Bright']
        """
        return [*self.record.channels]

    @property
    def selections(self) -> list[str]:
        """Names of its selections (T3)."""
        return [*self.record.selections]

    @property
    def units(self) -> Mapping[str, Mapping[str, Any]]:
        """Its units (T2) by name: ``unit``, ``channel`` and ``config`` with all defaults.

        Examples
        --------
        >>> import ampel_spark as aps
        >>> units = aps.open("lake").run("latest").units
        >>> units["salt_fit"]["config"]["model"]
        'salt3/2.0'
        """
        return self.record.units

    def decisions(self, channel: str | None = None) -> pa.Table:
        """Return what the run's filters decided, an alert and a channel in each row.

        The rows may be those of an earlier run that judged the same alerts by the same filter.

        Parameters
        ----------
        channel : str, optional
            Name of one channel; by default all.

        Raises
        ------
        ConfigError
            If the run has no such channel.

        Examples
        --------
        >>> import ampel_spark as aps
        >>> run = aps.open("lake").run("latest")
        >>> len(run.decisions("SN")) == run.counts.t0["SN"]["alerts"]
        True
        """
        from ampel_spark.lake.decisions import decisions_of

        if channel is not None and channel not in self.channels:
            raise ConfigError(
                f"run {self.id} has no channel {channel!r}{nearest(channel, self.channels)}"
            )
        return decisions_of(self.lake, self.record, None if channel is None else [channel])

    def candidates(self, selection: str | None = None) -> pa.Table:
        """Return what the run selected, the best first, with the columns that the job asks for.

        Parameters
        ----------
        selection : str, optional
            Name of one selection; by default all.

        Raises
        ------
        ConfigError
            If the run has no such selection.

        Examples
        --------
        >>> import ampel_spark as aps
        >>> found = aps.open("lake").run("latest").candidates("bright")
        >>> found["rank"].to_pylist()[:2]
        [1, 2]
        """
        import pyarrow.compute as pc

        from ampel_spark.lake.parts import arrow_schema

        wanted = self.selections if selection is None else [selection]
        if selection is not None and selection not in self.selections:
            raise ConfigError(
                f"run {self.id} has no selection {selection!r}{nearest(selection, self.selections)}"
            )
        mine = (pc.field("run_id") == self.id) & pc.field("selection").isin(wanted)
        if "candidates" not in table_names(self.lake):
            return arrow_schema(TABLES["candidates"]).empty_table()
        rows = read(self.lake, "candidates", filters=mine)
        rows = rows.sort_by([(key, "ascending") for key in ("selection", "channel", "rank")])
        kept = [n for n in rows.column_names if not len(rows) or rows[n].null_count < len(rows)]
        return rows.select(kept)

    def sample(self, selection: str | None = None) -> Sample:
        """Return the candidates of a selection as units of T3 see them.

        Parameters
        ----------
        selection : str, optional
            Name of one selection; by default the first.

        Raises
        ------
        ConfigError
            If the run has no such selection.

        Examples
        --------
        >>> import ampel_spark as aps
        >>> sample = aps.open("lake").run("latest").sample("sn_ia")
        >>> sample.values("salt_fit.x1").shape == (len(sample),)
        True
        >>> sample.light_curve(0).name == sample.names[0]
        True
        """
        import pyarrow.compute as pc

        from ampel_spark.interface.object_view import ObjectView
        from ampel_spark.t3.sample import Sample

        name = selection or next(iter(self.selections), "candidates")
        table = self.candidates(name)
        channel = self.record.selections[name]["channel"]
        states = table["state_id"].combine_chunks()
        units = [u for u, entry in self.units.items() if channel in entry["channel"]]
        held = {unit: self.results(unit) for unit in units}
        aligned = {
            unit: rows.take(pc.index_in(states, value_set=rows["state_id"].combine_chunks()))
            for unit, rows in held.items()
        }
        stocks = dict(zip(states.to_pylist(), table["stock"].to_pylist(), strict=True))

        def curves(wanted: Sequence[str]) -> dict[str, LightCurve]:
            return {
                state: ObjectView.of(self, stocks[state], channel).light_curve(state)
                for state in wanted
            }

        return Sample.of(table, aligned).of_run(name, channel, self.record, curves)

    def results(self, unit: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the results of a unit that the run used, one for each state.

        Parameters
        ----------
        unit : str
            Name of its entry in the job.
        columns : sequence of str, optional
            Those of the table ``t2_<unit>`` to return; by default all.

        Raises
        ------
        ConfigError
            If the run has no such unit.
        LakeError
            If there is no such column.

        Examples
        --------
        >>> import ampel_spark as aps
        >>> run = aps.open("lake").run("latest")
        >>> fits = run.results("salt_fit", ["name", "status", "x1"])
        >>> fits.num_rows == run.counts.t2["salt_fit"]["wanted"]
        True
        """
        import numpy as np
        import pyarrow as pa

        from ampel_spark.job.comparison.sides import Side, common_ids, frame_of, links_of

        if unit not in self.units:
            raise ConfigError(f"run {self.id} has no unit {unit!r}{nearest(unit, self.units)}")
        known = [field.name for field in open_table(self.lake, f"t2_{unit}").schema().fields]
        names = list(known if columns is None else columns)
        check_columns(self.lake, f"t2_{unit}", names, known)
        links = links_of(self.lake, self.id)
        ids = common_ids(links)
        side = Side(self.lake, self.record, ids, frame_of(links, ids))
        found = side.results(unit, names)
        rows = np.sort(found.row[found.row >= 0])
        return found.table.take(pa.array(rows)).select(names)

    def access(self, channel: str | None = None) -> dict[str, frozenset[int]]:
        """Return the program ids that each channel may see, or those of one channel.

        Parameters
        ----------
        channel : str, optional
            By default all channels.

        Raises
        ------
        ConfigError
            If the run has no such channel, or the survey no longer has its data rights.

        Examples
        --------
        >>> import ampel_spark as aps
        >>> aps.open("lake").run("latest").access("SN")
        {'SN': frozenset({1})}
        """
        from ampel_spark.job.configuration.load import load_survey

        survey = load_survey(self.record.job_resolved["survey"])
        given = {right for c in self.record.channels.values() for right in c["access"]}
        if gone := given - set(survey.access):
            raise ConfigError(
                f"channels of run {self.id} have the data rights {', '.join(sorted(gone))}, "
                f"which survey {survey.name} no longer has: enter them in its 'access' again"
            )
        access = {
            name: frozenset(survey.access[right] for right in c["access"])
            for name, c in self.record.channels.items()
        }
        if channel is None:
            return access
        if channel not in access:
            raise ConfigError(f"run {self.id} has no channel {channel!r}{nearest(channel, access)}")
        return {channel: access[channel]}

    def release(self) -> Release:
        """Return the calibration release that the run used.

        Raises
        ------
        ConfigError
            If it is no longer what it was then.
        """
        from ampel_spark.job.configuration.load import load_calibration, load_survey

        job = self.record.job_resolved
        release = load_calibration(job["calibration"], load_survey(job["survey"]))
        then = self.record.inputs.calibrations.get(release.name, release.content_hash)
        if then != release.content_hash:
            raise ConfigError(
                f"calibration release {release.name} has changed since run {self.id}: it is "
                f"{release.content_hash[:12]} now and was {then[:12]}"
            )
        return release
