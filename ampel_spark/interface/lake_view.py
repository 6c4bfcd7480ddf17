"""A lake, opened to be read: its tables, runs and objects, without Spark."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampel_spark.errors import ConfigError
from ampel_spark.interface.run_view import RunView
from ampel_spark.interface.table_view import TableView, time_column
from ampel_spark.lake.reading import check_lake, table_names
from ampel_spark.lake.runs import runs

if TYPE_CHECKING:
    from ampel_spark.interface.object_view import ObjectView

__all__ = ["LakeView", "open_lake"]


def open_lake(path: str | Path) -> LakeView:
    """Open a lake to read it; exported as ``ampel_spark.open``.

    Parameters
    ----------
    path : path
        Root of the lake.

    Raises
    ------
    LakeError
        If there is no lake, or it is of another format.

    Examples
    --------
    >>> import ampel_spark as aps
    >>> lake = aps.open("lake")
    >>> "candidates" in lake.tables
    True
    """
    return LakeView(check_lake(path))


@dataclass(frozen=True)
class LakeView:
    """A lake. Everything is read when asked for, in its newest version unless another is named.

    Attributes
    ----------
    path : Path
        Root of the lake.
    """

    path: Path

    @property
    def tables(self) -> list[str]:
        """Names of its tables.

        Examples
        --------
        >>> import ampel_spark as aps
        >>> aps.open("lake").tables[:3]
        ['alerts', 'archive_files', 'calibrations']
        """
        return table_names(self.path)

    def branch(self, to: str | Path, *, archive: bool = False) -> LakeView:
        """Make a lake that begins with this one's tables and goes its own way, and return it.

        Parameters
        ----------
        to : path
            A folder that is empty or not there.
        archive : bool, optional
            Take the archive and catalogues alone: no runs and results.

        Raises
        ------
        LakeError
            If a file of this lake is lost, or `to` is taken.

        Examples
        --------
        >>> import ampel_spark as aps
        >>> trial = aps.open("lake").branch("trial", archive=True)
        >>> "alerts" in trial.tables, "runs" in trial.tables
        (True, False)
        """
        from ampel_spark.lake.branch import branch, of_archive

        return LakeView(branch(self.path, to, of_archive(self.path) if archive else None).root)

    def table(
        self,
        name: str,
        *,
        version: int | None = None,
        as_of: str | float | None = None,
        columns: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> TableView:
        """Return a table, to be read as Arrow, pandas, a Spark DataFrame or a DuckDB relation.

        Rows of all data rights are in it, as in the files: choose by ``programid``.

        Parameters
        ----------
        name : str
            The table.
        version : int, optional
            An earlier version of it.
        as_of : str or float, optional
            What was known at the end of a night (``YYYY-MM-DD``, UTC) or at a JD; or ``vN``, what
            the lake held at version N of ``archive_files``.
        columns : sequence of str, optional
            By default all.
        where : mapping of str to value or collection, optional
            Rows: columns that have this value, or one of these values; None for null.

        Raises
        ------
        LakeError
            If there is no such table, version or column.
        ConfigError
            If `as_of` is no time, or does not go with this table or with `version`.

        Examples
        --------
        >>> import ampel_spark as aps
        >>> lake = aps.open("lake")
        >>> sn = lake.table("decisions", where={"channel": ["SN"], "accepted": True})
        >>> len(sn) < len(lake.table("decisions"))
        True
        >>> early = lake.table("alerts", as_of="2024-03-10", columns=["jd"])
        >>> max(early.arrow()["jd"].to_pylist()) < 2460380.5
        True
        """
        if as_of is None:
            return TableView.of(self.path, name, version, columns, where)
        if version is not None:
            raise ConfigError(f"table {name!r}: name a version or as_of, not both")
        if found := re.fullmatch(r"v(\d+)", str(as_of).strip()):
            return TableView.of(
                self.path, name, self._version_in(name, int(found[1])), columns, where
            )
        from ampel_spark.archive.reading.surveys import as_of_jd

        until = time_column(name), as_of_jd(as_of)
        return TableView.of(self.path, name, None, columns, where, until)

    def runs(self) -> list[RunView]:
        """Return its runs, the newest first.

        Examples
        --------
        >>> import ampel_spark as aps
        >>> [run.calibration for run in aps.open("lake").runs()]
        ['raw', 'zp_g_10mmag', 'raw']
        """
        return [RunView(self.path, record) for record in runs(self.path)]

    def run(self, text: str = "latest") -> RunView:
        """Return one run.

        Parameters
        ----------
        text : str
            ``latest`` (of those that were not killed), a run's id, or the beginning of one that
            fits no other.

        Raises
        ------
        LakeError
            If there is none, or more than one.

        Examples
        --------
        >>> import ampel_spark as aps
        >>> lake = aps.open("lake")
        >>> lake.run("latest").id == lake.runs()[0].id
        True
        """
        return RunView.of(self.path, text)

    def object(
        self, name: str | int, run: str | RunView = "latest", channel: str | None = None
    ) -> ObjectView:
        """Return an object as a run saw it.

        Parameters
        ----------
        name : str or int
            The survey's name of it, or its stock id.
        run : str or RunView
            As for `run`.
        channel : str, optional
            What this channel knows; by default any channel of the run.

        Raises
        ------
        LakeError
            If there is no such run, or no channel may see an alert of such an object.
        ConfigError
            If the run has no such channel.

        Examples
        --------
        >>> import ampel_spark as aps
        >>> lake = aps.open("lake")
        >>> stock = lake.table("states").arrow()["stock"][0].as_py()
        >>> lake.object(stock).stock == stock
        True
        """
        from ampel_spark.interface.object_view import ObjectView

        return ObjectView.of(run if isinstance(run, RunView) else self.run(run), name, channel)

    def _version_in(self, name: str, chunk: int) -> int:
        """Return the version of a table that belongs to a version of ``archive_files``.

        Raises
        ------
        ConfigError
            If the table is none of the archive's.
        """
        from ampel_spark.archive.committing.chunks import pinned

        versions = asdict(pinned(self.path, chunk))
        if name not in versions:
            raise ConfigError(
                f"table {name!r} is none of the archive's: as_of vN goes with "
                f"{', '.join(versions)}; name a version instead"
            )
        version: int = versions[name]
        return version
