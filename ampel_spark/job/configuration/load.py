"""A job file, read, checked and resolved, before anything is started.

All that is wrong is reported at once, each with its line, its path, the value, and the nearest
right name::

    jobs/mine.yml:14: t0[0].config.min_ndett: unknown parameter, value 3; did you mean 'min_ndet'?

Paths in a job are relative to the job file; names of surveys and calibration releases are files of
the folders ``AMPEL_SPARK_CONF`` and ``conf`` (see `ampel_spark.settings.conf_file`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from ampel_spark import __version__
from ampel_spark.archive.reading.surveys import Survey, as_of_jd
from ampel_spark.calibration.load import load_release
from ampel_spark.calibration.release import Release
from ampel_spark.document import (
    Document,
    DocumentError,
    parse_document,
    read_document,
    written,
)
from ampel_spark.errors import ArchiveError, ConfigError
from ampel_spark.job.configuration.catalogs import build_catalogs
from ampel_spark.job.configuration.model import (
    Channel,
    ChannelEntry,
    Job,
    ResolvedJob,
    SimulationEntry,
    States,
    SystematicsEntry,
    UnitStep,
)
from ampel_spark.job.configuration.steps import (
    Own,
    build_filters,
    build_samples,
    build_selections,
    build_units,
    check_systematics,
)
from ampel_spark.job.configuration.variations import expanded
from ampel_spark.lake.runs import Run
from ampel_spark.problems import entries, note_refusals, read_model
from ampel_spark.settings import conf_dir, conf_file, find_conf, is_path, share_dir
from ampel_spark.store import Remote, place

__all__ = [
    "conf_dir",
    "load_calibration",
    "load_job",
    "load_recorded",
    "load_survey",
    "simulated_dir",
]

_OWN = Own()


def load_job(
    path: str | Path,
    sets: Sequence[str] = (),
    archive: Sequence[str] | None = None,
    calibration: str | None = None,
    lake: str | Path | None = None,
    *,
    code: bool = True,
    before: Callable[[Sequence[str]], None] | None = None,
) -> ResolvedJob:
    """Read, check and resolve a job file.

    Parameters
    ----------
    path : path
        The job file.
    sets : sequence of str, optional
        Settings ``PATH=VALUE`` that change it, as ``t0.0.config.min_ndet=3``.
    archive : sequence of str, optional
        Archive instead of the job's own: paths and globs, relative to the current folder.
    calibration : str, optional
        Calibration release instead of the job's own: a name, or a path relative to the current
        folder.
    lake : path, optional
        Lake to look for catalogues in, instead of ``AMPEL_SPARK_LAKE`` and the job's own.
    code : bool
        False: run no code of the job's own units, and check what needs none. Such a job cannot run.
    before : callable, optional
        Takes what the job names as its own units, before their code runs for the first time.

    Raises
    ------
    ConfigError
        If anything is wrong with it: all of it at once.
    """
    document, file = read_document(path), Path(path).resolve()
    return _of_text(document, file, sets, archive, calibration, lake, Own(code, before))


def load_recorded(
    run: Run,
    sets: Sequence[str] = (),
    calibration: str | None = None,
    lake: str | Path | None = None,
) -> ResolvedJob:
    """Return the job of a recorded run, changed where asked.

    Parameters
    ----------
    run : Run
    sets : sequence of str, optional
        Settings ``PATH=VALUE`` that change it.
    calibration : str, optional
        Another calibration release: a name, or a path relative to the current folder.
    lake : path, optional
        Lake to look for catalogues in, as for `load_job`.

    Raises
    ------
    ConfigError
        If something that the job names is no longer there, or a setting is wrong.
    """
    document = parse_document(f"job of run {run.run_id}", written(dict(run.job_resolved)))
    file = Path(run.job_file or Path.cwd() / "job.yml")
    return _of_text(document, file, sets, None, calibration, lake)


def _of_text(
    document: Document,
    file: Path,
    sets: Sequence[str],
    archive: Sequence[str] | None,
    calibration: str | None,
    lake: str | Path | None,
    own: Own = _OWN,
) -> ResolvedJob:
    """Return the job of a document, whose variations are made of the same text.

    The file may change while a run of it goes on.
    """

    def varied(more: Sequence[str] = (), release: str | None = None) -> ResolvedJob:
        again = parse_document(document.name, document.text)
        return _of_text(again, file, [*sets, *more], archive, release or calibration, lake, own)

    return _resolve(document, file, sets, archive, calibration, varied, lake, own)


def _resolve(
    document: Document,
    file: Path,
    sets: Sequence[str],
    archive: Sequence[str] | None,
    calibration: str | None,
    varied: Callable[..., ResolvedJob],
    lake: str | Path | None,
    own: Own,
) -> ResolvedJob:
    for setting in sets:
        document.set(setting)
    job: Job | None = None
    try:
        job = Job.model_validate(document.content)
    except ValidationError as error:
        note_refusals(document, error, Job)
    base = file.parent
    notes: list[str] = []
    survey_source, survey = _survey(document, base)
    source = _calibration_source(document, base, calibration)
    release = _release(document, source, survey, calibration)
    files = _archive(document, base, archive, survey)
    simulated = archive is None and isinstance(document.value(["archive"]), dict)
    simulation = _simulation(document, survey) if simulated else None
    label = "ztf" if survey is None else survey.label
    folder = None if simulation is None else simulated_dir(simulation, label)
    store = _lake(document, base, lake)
    catalogs = build_catalogs(document, base, folder, notes, store)
    channels = _channels(document, survey)
    as_of = _as_of(document, survey)
    filters = build_filters(document, base, catalogs, store, own, survey)
    units = build_units(document, base, catalogs, store, own, survey)
    selections = build_selections(document, units, survey)
    samples = build_samples(document, base, own, units, selections, survey)
    check_systematics(document, job, units, selections, base)
    document.check()
    if job is None or survey is None or release is None:
        raise AssertionError("check() has passed")
    mode = job.t1.states if isinstance(job.t1.states, str) else "as_of"
    return ResolvedJob(
        name=job.name,
        description=job.description,
        file=file,
        text=document.text,
        settings=tuple(sets),
        survey=survey,
        survey_source=survey_source,
        lake=None if job.lake is None else _absolute(job.lake, base),
        archive=files,
        simulation=simulation,
        simulated_in=folder,
        calibration=release,
        calibration_source=source,
        catalogs=catalogs,
        channels=channels,
        filters=tuple(filters),
        states=States(mode, as_of, job.t1.points),
        units=tuple(units),
        selections=tuple(selections),
        samples=tuple(samples),
        systematics=_placed(job.systematics, base, units),
        report=job.report or None,
        notes=tuple(notes),
        varied=varied,
    )


def simulated_dir(simulation: SimulationEntry, survey: str = "ztf") -> Path:
    """Return the folder of a simulated archive of a survey, named by what is simulated.

    It lies in ``AMPEL_SPARK_ARCHIVES``, else with what the set-up has put in place.
    """
    given = os.environ.get("AMPEL_SPARK_ARCHIVES")
    folder = Path(given).resolve() if given else share_dir() / "archives"
    # another version of the simulator may make other bytes of the same numbers
    text = f"{__version__} {simulation.model_dump_json()}"
    text += "" if survey == "ztf" else f" {survey}"
    return folder / f"simulated-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def load_survey(source: str) -> Survey:
    """Read a survey's settings.

    Parameters
    ----------
    source : str
        Name of a file of ``conf/surveys``, or a path (with a ``/`` or ``.yml``).

    A file that is another form of a survey's data (``of``) has the columns that this survey
    declares, where it declares none.

    Raises
    ------
    ConfigError
        If there is no such file, or something is wrong with it.
    """
    survey = read_model(conf_file("surveys", source), Survey)
    other = None if survey.of in (None, survey.name) else find_conf("surveys", str(survey.of))
    if other is None or "columns" in survey.model_fields_set:
        return survey
    return survey.model_copy(update={"columns": read_model(other, Survey).columns})


def load_calibration(source: str, survey: Survey | None = None) -> Release:
    """Read a calibration release.

    Parameters
    ----------
    source : str
        Name of a file of ``conf/calibrations``, or a path (with a ``/`` or ``.yml``).
    survey : Survey, optional
        Says when nights begin.

    Raises
    ------
    ConfigError
        If there is no such file, or something is wrong with it.
    """
    path = source if is_path(source) else conf_file("calibrations", source)
    return load_release(path, survey)


def _absolute(path: str, base: Path) -> Path:
    there = place(path)
    return there if isinstance(there, Remote) else Path(os.path.normpath(base / there))


def _lake(document: Document, base: Path, given: str | Path | None) -> Path:
    """Return the lake where a run of the job would be."""
    named = given or os.environ.get("AMPEL_SPARK_LAKE")
    if named:
        return place(named).resolve()
    own = document.content.get("lake")
    return _absolute(own, base) if isinstance(own, str) else Path.cwd() / "lake"


def _calibration_source(document: Document, base: Path, given: str | None) -> str:
    """Return the name of the release, or the absolute path of its file."""
    source = given if given is not None else document.content.get("calibration", "raw")
    if not isinstance(source, str):
        return "raw"  # what is wrong with it has been noted
    if not is_path(source):
        return source
    return str(_absolute(source, base if given is None else Path.cwd()))


def _placed(
    entry: SystematicsEntry | None, base: Path, units: Sequence[UnitStep]
) -> SystematicsEntry | None:
    """Return single variations, with absolute paths of the releases that are files."""
    if entry is None:
        return None
    unit = next(step for step in units if step.name == entry.unit)
    placed = tuple(
        v.model_copy(update={"calibration": str(_absolute(v.calibration, base))})
        if v.calibration is not None and is_path(v.calibration)
        else v
        for v in expanded(entry.variations, unit, base)
    )
    return entry.model_copy(update={"variations": placed})


def _release(
    document: Document, source: str, survey: Survey | None, given: str | None
) -> Release | None:
    try:
        return load_calibration(source, survey)
    except DocumentError as error:
        document.foreign.extend(error.problems)
    except ConfigError as error:
        if given is None:
            document.problem(["calibration"], str(error))
        else:
            document.foreign.append(
                {
                    "file": f"--calibration {given}",
                    "line": None,
                    "path": "",
                    "message": str(error),
                }
            )
    return None


def _survey(document: Document, base: Path) -> tuple[str, Survey | None]:
    """Return the name of the survey, or the absolute path of its file, and its settings."""
    source = document.content.get("survey", "ztf")
    if not isinstance(source, str):
        return "ztf", None  # what is wrong with it has been noted
    source = str(_absolute(source, base)) if is_path(source) else source
    try:
        return source, load_survey(source)
    except DocumentError as error:
        document.foreign.extend(error.problems)
    except ConfigError as error:
        document.problem(["survey"], str(error))
    return source, None


def _archive(
    document: Document, base: Path, given: Sequence[str] | None, survey: Survey | None
) -> tuple[str, ...]:
    """Return the paths and globs of the archive, absolute, and check that files are behind them."""
    from ampel_spark.archive.reading.files import PATTERNS, find_files
    from ampel_spark.archive.reading.readers import name_patterns

    patterns = PATTERNS if survey is None else name_patterns(survey)
    own = document.content.get("archive")
    texts = given if given is not None else own if isinstance(own, list) else [own]
    paths = []
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            continue
        path = _absolute(text, base if given is None else Path.cwd())
        paths.append(str(path))
        try:
            find_files([path], patterns)
        except ArchiveError as error:
            if given is None:
                document.problem(
                    ["archive", i] if isinstance(own, list) else ["archive"], str(error)
                )
            else:
                document.foreign.append(
                    {"file": f"--archive {text}", "line": None, "path": "", "message": str(error)}
                )
    return tuple(paths)


def _simulation(document: Document, survey: Survey | None) -> SimulationEntry | None:
    found = None
    with contextlib.suppress(ValidationError):
        found = SimulationEntry.model_validate(document.value(["archive", "simulate"]))
    if survey is not None and survey.label not in ("ztf", "lsst"):
        document.problem(
            ["archive", "simulate"],
            f"alerts of survey {survey.name} are not simulated: ztf and lsst are",
        )
    if survey is not None and survey.label == "lsst" and found is not None and found.objects:
        document.problem(["archive", "simulate", "objects"], "for lsst give the number of alerts")
    return found


def _channels(document: Document, survey: Survey | None) -> dict[str, Channel]:
    rights = survey.access if survey else {}
    found: dict[str, Channel] = {}
    for i, entry in entries(document, "channel", ChannelEntry):
        if entry.name in found:
            document.problem(["channel", i, "name"], f"a second channel {entry.name!r}")
        for k, right in enumerate(entry.access):
            if survey and right not in rights:
                document.problem(
                    ["channel", i, "access", k],
                    # which rights somebody has is not for a program to guess
                    f"unknown data right of {survey.name}, value {right!r}: its settings"
                    " (conf/surveys) list them under 'access'",
                )
        programids = tuple(sorted({rights[right] for right in entry.access if right in rights}))
        found[entry.name] = Channel(entry.name, entry.access, programids)
    return found


def _as_of(document: Document, survey: Survey | None) -> tuple[float, ...]:
    """Return the times of ``t1: {states: {as_of: […]}}`` as JD, in order."""
    times = document.value(["t1", "states", "as_of"])
    jds = set()
    for i, time in enumerate(times if isinstance(times, list) else ()):
        if time is None or isinstance(time, bool | list | dict):
            continue  # that has been noted
        try:
            jds.add(as_of_jd(time, survey))
        except ConfigError as error:
            document.problem(["t1", "states", "as_of", i], str(error))
    return tuple(sorted(jds))
