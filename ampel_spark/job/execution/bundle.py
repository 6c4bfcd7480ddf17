"""Bundles: a job with all that it names, as one file that runs on another lake.

A bundle is a zip file. ``job.yml`` is the resolved job, with paths into the bundle in place of
those of its author: survey, calibration release and its tables, recipes, catalogues, files of
parameters, and the author's own units. ``bundle.json`` has a hash of each file, the packages that
were installed, and what the job was: traces of filters and units, content hashes of the release and
of catalogues. Where the job is loaded again, `differences` names whatever is not the same there.

The archive of alerts is not in a bundle, unless it is simulated: the receiver's lake has it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.parquet as pq

from ampel_spark.bounds import cure, limit, most_unpacked
from ampel_spark.classes import modules_behind
from ampel_spark.document import written
from ampel_spark.errors import ConfigError
from ampel_spark.job.configuration.catalogs import catalog_inputs
from ampel_spark.job.configuration.load import load_job
from ampel_spark.job.configuration.model import ResolvedJob
from ampel_spark.job.execution.run import traces_of
from ampel_spark.job.execution.tiers import selections_of
from ampel_spark.lake.marker import mark
from ampel_spark.lake.runs import Run
from ampel_spark.lake.software import git_commit, software
from ampel_spark.settings import conf_file, find_conf
from ampel_spark.sky.sources import CatalogSettings
from ampel_spark.sky.store import Stored, add, folder_of, is_stored
from ampel_spark.t0.filters import Filter
from ampel_spark.t2.unit import Unit
from ampel_spark.t3.unit import T3Unit
from ampel_spark.trace import digest_of

__all__ = ["Bundle", "differences", "is_bundle", "load_bundle", "open_bundle", "publish"]

_FORMAT = 1
_MANIFEST, _JOB = "bundle.json", "job.yml"
_WHEN = (1980, 1, 1, 0, 0, 0)  # one content is one file, whenever it is made


@dataclass(frozen=True)
class Bundle:
    """A bundle that was unpacked.

    Attributes
    ----------
    folder : Path
        Where its files are.
    about : mapping
        What ``bundle.json`` says.
    """

    folder: Path
    about: Mapping[str, Any]


@dataclass
class _Packing:
    """The files of a bundle, as they are found."""

    base: Path
    files: dict[str, bytes] = field(default_factory=dict)

    def file(self, path: Path, name: str | None = None) -> str:
        """Take a file in, and return its path in the bundle."""
        size = path.stat().st_size + sum(map(len, self.files.values()))
        if size > limit("file"):
            raise ConfigError(f"with {path} the bundle is larger than its bound: {cure('file')}")
        data = path.read_bytes()
        name = name or f"files/{_hash(data)[:12]}/{path.name}"
        self.files[name] = data
        return name

    def folder(self, path: Path) -> str:
        """Take a folder in, and return its path in the bundle."""
        files = [file for file in sorted(path.rglob("*")) if file.is_file()]
        names = [file.relative_to(path).as_posix() for file in files]
        known = json.dumps([names, [digest_of(file) for file in files]])
        top = f"files/{_hash(known.encode())[:12]}/{path.name}"
        for file, name in zip(files, names, strict=True):
            self.file(file, f"{top}/{name}")
        return top


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def publish(job: ResolvedJob, to: Path, run: Run | None = None) -> dict[str, Any]:
    """Write a job and what it names to one file, and return what ``bundle.json`` says.

    Parameters
    ----------
    job : ResolvedJob
    to : Path
        The file; one that is there is not written over.
    run : Run, optional
        The run that the job is of.

    Raises
    ------
    ConfigError
        If `to` is there, something that the job names is not, or the run was made by other code or
        files than there are now.
    """
    if to.exists():
        raise ConfigError(f"{to} is there already: name another file, or remove it")
    packing = _Packing(job.file.resolve().parent)
    content = _packed(job, packing)
    packing.files[_JOB] = written(content).encode()
    pinned = _pins(job)
    if run is not None:
        _check_same(run, job, pinned)
    about: dict[str, Any] = {
        "format": _FORMAT,
        "name": job.name,
        "pins": pinned,
        "as_of_jd": None if run is None else run.inputs.as_of_jd,
        "archive": [Path(path).name for path in job.archive],
        "catalogs": {
            name: {
                "lake": source.lake,
                "settings": Stored.open(source.file, source.version).about["settings"],
            }
            for name, source in job.catalogs.items()
            if source.lake is not None and source.file is not None
        },
        "run": None
        if run is None
        else {"run_id": run.run_id, "started": run.started.isoformat(), "job_hash": run.job_hash,
              "counts": run.counts.t3},
        "software": software(),
        "git_commit": git_commit(),
        "packages": _packages(),
        "files": {
            name: {"sha256": _hash(data), "size": len(data)}
            for name, data in sorted(packing.files.items())
        },
    }  # fmt: skip
    packing.files[_MANIFEST] = (json.dumps(about, indent=1, sort_keys=True) + "\n").encode()
    partial = to.with_name(f".{to.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(packing.files):
                archive.writestr(zipfile.ZipInfo(name, _WHEN), packing.files[name],
                                 zipfile.ZIP_DEFLATED)  # fmt: skip
        partial.rename(to)
    except OSError as error:
        raise ConfigError(f"{to} cannot be written: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    return about


def _packed(job: ResolvedJob, packing: _Packing) -> dict[str, Any]:
    """Return a job's content with paths into a bundle, and take the files in."""
    content: dict[str, Any] = json.loads(job.written)
    content["survey"] = packing.file(conf_file("surveys", job.survey_source))
    content["calibration"] = _release(job.calibration_source, packing)
    content["archive"] = content["archive"] if job.simulation is not None else None
    for name, entry in content["catalog"].items():
        source = job.catalogs[name]
        if source.lake is not None and source.file is not None:
            stored = Stored.open(source.file, source.version)
            rows = stored.in_ranges(stored.tiles.ranges, [*stored.types(), "hpx"])
            sink = io.BytesIO()
            pq.write_table(rows, sink, compression="zstd")
            packing.files[f"catalogs/{name}.parquet"] = sink.getvalue()
            entry["version"] = None
    for entry, judge in zip(content["t0"], job.filters, strict=True):
        entry["filter"] = _own(judge.name, type(judge.filter), Filter, packing)
    for entry, step in zip(content["t2"], job.units, strict=True):
        entry["unit"] = _own(step.spec, type(step.unit), Unit, packing)
    pages = [entry for entry in content["t3"] if "unit" in entry]
    for entry, page in zip(pages, job.samples, strict=True):
        entry["unit"] = _own(page.spec, type(page.unit), T3Unit, packing)
    for variation in (content.get("systematics") or {}).get("variations", ()):
        if variation["calibration"] is not None:
            variation["calibration"] = _release(variation["calibration"], packing)
    return {key: _moved(value, key, packing) for key, value in content.items()}


def _release(source: str, packing: _Packing) -> str:
    """Take a calibration release in, with its tables, and return its path in the bundle."""
    from ampel_spark.job.configuration.load import load_calibration

    release = load_calibration(source)
    path = conf_file("calibrations", source).resolve()
    top = f"calibrations/{release.content_hash[:12]}"
    for rule in release.rules:
        for table in (rule.table, rule.replace):
            if table is None:
                continue
            file = Path(table.path).resolve()
            if not file.is_relative_to(path.parent):
                raise ConfigError(
                    f"calibration {release.name} reads {file}, which is not below {path.parent}: "
                    "put the table beside the release"
                )
            packing.file(file, f"{top}/{file.relative_to(path.parent).as_posix()}")
    return packing.file(path, f"{top}/{path.name}")


def _own(spec: str, cls: type, base: type, packing: _Packing) -> str:
    """Take the code of somebody's own class in, and return how the bundled job names it."""
    where, _, name = spec.rpartition(":")
    if not where.endswith(".py"):
        return spec  # of the package, or of one that the receiver has to install
    main = (packing.base / where).resolve()
    files = {main} | {file.resolve() for _, file in modules_behind(cls, base).values()}
    mine = sorted(file for file in files if file.is_relative_to(main.parent))
    known = [(file.relative_to(main.parent).as_posix(), file.read_bytes()) for file in mine]
    digest = hashlib.sha256(repr([(n, _hash(data)) for n, data in known]).encode()).hexdigest()
    for inner, data in known:
        packing.files[f"code/{digest[:12]}/{inner}"] = data
    return f"code/{digest[:12]}/{main.name}:{name}"


def _moved(value: Any, key: str, packing: _Packing) -> Any:
    """Return a part of a job with paths into the bundle in place of those that are there."""
    if isinstance(value, dict):
        return {k: _moved(part, k, packing) for k, part in value.items()}
    if isinstance(value, list):
        return [_moved(part, key, packing) for part in value]
    if not isinstance(value, str):
        return value
    if key == "recipe" and (named := find_conf("recipes", value)) is not None:
        return packing.file(named)
    path = Path(value)
    if not value or not path.is_absolute() or not path.exists():
        return value
    return packing.folder(path) if path.is_dir() else packing.file(path)


def _pins(job: ResolvedJob) -> dict[str, Any]:
    """Return what decides the results of a job, beside the alerts that it reads.

    What a simulated archive brings is left out: it may still have to be made.
    """
    brought = {name: source for name, source in job.catalogs.items() if source.simulated is None}
    filters = [step if step.gaia in brought else replace(step, gaia=None) for step in job.filters]
    t2 = {
        name: {"trace_id": trace.trace_id, **trace.content}
        for name, trace in traces_of(job).items()
    }
    pinned = {
        "survey": job.survey.model_dump(mode="json"),
        "calibration": {"name": job.calibration.name, "hash": job.calibration.content_hash},
        "catalogs": {name: found.hash for name, found in catalog_inputs(brought).items()},
        "t0": {s.channel: s.trace_id for s in selections_of(replace(job, filters=tuple(filters)))},
        "t2": t2,
    }  # fmt: skip
    found: dict[str, Any] = json.loads(json.dumps(pinned, default=str))
    return found


def _check_same(run: Run, job: ResolvedJob, pinned: Mapping[str, Any]) -> None:
    """Refuse to publish a run whose filters, units or release are no longer what they were.

    Raises
    ------
    ConfigError
        If that is so.
    """
    filters = {selection.channel: selection.trace_id for selection in selections_of(job)}
    changed = [
        f"filter of channel {channel}"
        for channel, trace in run.traces.t0.items()
        if filters.get(channel) != trace
    ]
    changed += [
        f"unit {name}"
        for name, trace in run.traces.t2.items()
        if pinned["t2"].get(name, {}).get("trace_id") != trace.trace_id
    ]
    if changed:
        raise ConfigError(
            f"run {run.run_id} was made by other code or files than there are now"
            f" ({', '.join(changed)}): run its job again, and publish that run"
        )


def _packages() -> dict[str, str]:
    """Return the installed packages and their versions."""
    found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def is_bundle(path: Path) -> bool:
    """Say whether a file is a bundle."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return _MANIFEST in archive.namelist()


def open_bundle(path: Path, within: Path) -> Bundle:
    """Unpack a bundle into a folder of its own, named by its content.

    Parameters
    ----------
    path : Path
        The bundle.
    within : Path
        The folder in which that folder is made, unless it is there.

    Raises
    ------
    ConfigError
        If it is none, is of another format, or a file in it is not the one that was packed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            about, files = _unpacked(path, archive)
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no bundle that can be read: {error}") from None
    name = _hash(json.dumps(about["files"], sort_keys=True).encode())[:12]
    folder = within / f"{about['name']}-{name}"
    for inner, data in files.items():
        file = folder / inner
        if not (file.is_file() and file.read_bytes() == data):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
    return Bundle(folder, about)


def _unpacked(path: Path, archive: zipfile.ZipFile) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return what a bundle says of itself, and its files."""
    most = most_unpacked("file", path.stat().st_size)
    if sum(info.file_size for info in archive.infolist()) > most:
        raise ConfigError(f"{path} unpacks to more than {most >> 20} MB: {cure('file')}")
    about: dict[str, Any] = json.loads(archive.read(_MANIFEST))
    if about["format"] != _FORMAT:
        raise ConfigError(
            f"{path} is a bundle of format {about['format']}, this version reads {_FORMAT}:"
            " install the version of ampel_spark that wrote it, or a newer one"
        )
    files: dict[str, bytes] = {}
    for name, packed in about["files"].items():
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or not pure.parts:
            raise ConfigError(f"{path} has a file {name!r}, which would lie outside of its folder")
        files[name] = archive.read(name)
        if _hash(files[name]) != packed["sha256"]:
            raise ConfigError(f"{path} is damaged: {name} is not the file that was packed")
    return about, files


def load_bundle(bundle: Bundle, lake: Path, **given: Any) -> ResolvedJob:
    """Return the job of a bundle, with its catalogues in the lake.

    Parameters
    ----------
    bundle : Bundle
    lake : Path
        A catalogue of the author's lake that this one lacks is added to it.
    **given
        As for `load_job`.
    """
    sets = list(given.pop("sets", ()))
    for name, about in bundle.about["catalogs"].items():
        mark(lake)
        rows = pq.read_table(bundle.folder / "catalogs" / f"{name}.parquet").drop_columns(["hpx"])
        digest = bundle.about["pins"]["catalogs"][name]
        called = about["lake"]
        if is_stored(folder_of(lake, called)):
            there = Stored.open(folder_of(lake, called)).content_hash == digest
            # A catalogue of the receiver's own is left alone.
            called = called if there else f"{called}_{digest[:8]}"
        stored, _ = add(lake, called, rows, CatalogSettings.model_validate(about["settings"]))
        sets += [f"catalog.{name}.lake={called}", f"catalog.{name}.version={stored.version}"]
    return load_job(bundle.folder / _JOB, sets, lake=lake, **given)


def differences(bundle: Bundle, job: ResolvedJob) -> list[str]:
    """Return what decides results and is not as in the bundle, a line each."""
    return [*_differing(bundle.about["pins"], _pins(job))]


def _differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    if then["survey"] != now["survey"]:
        yield "the survey's settings are read otherwise"
    if then["calibration"]["hash"] != now["calibration"]["hash"]:
        yield f"calibration {then['calibration']['name']} has another content"
    for name, digest in then["catalogs"].items():
        if now["catalogs"].get(name) != digest:
            yield f"catalogue {name} has another content"
    for channel, trace in then["t0"].items():
        if now["t0"].get(channel) != trace:
            yield f"the filter of channel {channel} has another trace: its code or parameters"
    for name, trace in then["t2"].items():
        other = now["t2"].get(name)
        if other is None:
            yield f"unit {name} is not in the job"
        elif trace["trace_id"] != other["trace_id"]:
            yield f"unit {name} has another trace: {', '.join(_parts(trace, other))}"


def _parts(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is different in two traces of a unit."""
    for key in ("class", "parameters"):
        if then[key] != now[key]:
            yield f"its {key}"
    for name in sorted({*then["code"], *now["code"]}):
        if then["code"].get(name) != now["code"].get(name):
            yield f"the code of {name}"
    if [f["sha256"] for f in then["files"]] != [f["sha256"] for f in now["files"]]:
        mine = {f["sha256"] for f in now["files"]}
        names = [f["name"] for f in then["files"] if f["sha256"] not in mine]
        yield f"files that it reads ({', '.join(names) or 'more of them'})"
    for name in sorted({*then["libraries"], *now["libraries"]}):
        was, is_now = then["libraries"].get(name), now["libraries"].get(name)
        if was != is_now:
            yield f"{name} {was}, here {is_now}"
