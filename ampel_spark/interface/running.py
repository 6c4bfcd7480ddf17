"""A job, run from Python: as ``ampel-spark run`` does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ampel_spark.interface.places import lake_of
from ampel_spark.interface.run_view import RunView

__all__ = ["run"]


def run(
    job: str | Path,
    *,
    lake: str | Path | None = None,
    archive: str | Path | Sequence[str | Path] | None = None,
    set: Sequence[str] | Mapping[str, Any] = (),  # noqa: A002 - as --set
    calibration: str | None = None,
    as_of: str | None = None,
    report: str | Path | None = None,
    out: Callable[[str], None] = print,
) -> RunView:
    """Run a job and return its record.

    Spark starts where none runs in this process yet.

    Parameters
    ----------
    job : path
        The job file.
    lake : path, optional
        By default ``AMPEL_SPARK_LAKE``, else the job's, else ``./lake``; made where it is absent.
    archive : path or sequence of path, optional
        Archive instead of the job's own: folders, files or globs.
    set : sequence of str or mapping, optional
        Settings that change the job: ``["t0.SN.config.min_ndet=3"]``, or
        ``{"t0.SN.config.min_ndet": 3}``.
    calibration : str, optional
        Release instead of the job's own: a name or a file.
    as_of : str, optional
        The archive as known at the end of a night, or at a JD; or ``vN``, as the lake stood at
        version N of ``archive_files``.
    report : path, optional
        Where to write the HTML report; by default ``reports/<run id>.html`` in the lake.
    out : callable
        Takes lines of progress.

    Raises
    ------
    ConfigError
        If anything is wrong with the job: all of it at once.
    AmpelSparkError
        If the job failed.

    Examples
    --------
    >>> import ampel_spark as aps
    >>> made = aps.run("jobs/quickstart.yml", lake="lake")  # doctest: +SKIP
    >>> made.candidates("sn_ia").num_rows  # doctest: +SKIP
    7
    """
    from ampel_spark.job.configuration.load import load_job
    from ampel_spark.job.execution.inputs import as_of as inputs_of
    from ampel_spark.job.execution.run import run_job

    sets = [*set]
    if isinstance(set, Mapping):
        sets = [f"{key}={_text(value)}" for key, value in set.items()]
    paths = [archive] if isinstance(archive, str | Path) else archive
    archives = None if paths is None else [str(path) for path in paths]
    given = None if lake is None else str(lake)
    loaded = load_job(job, sets, archives, calibration, given)
    place = lake_of(given, loaded.lake)
    page = None if report is None else Path(report)
    made = run_job(loaded, place, inputs=inputs_of(as_of, loaded.survey), report=page, out=out)
    return RunView.of(place, made.run_id)


def _text(value: Any) -> str:
    """Return a value as YAML on one line, as settings are written."""
    import json

    return value if isinstance(value, str) else json.dumps(value)
