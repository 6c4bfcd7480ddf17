"""The local catalogues of a job: where they lie, and how units come by them.

A unit with a parameter ``catalog`` takes the name of one of the job's catalogues; its parameters
``ra``, ``dec`` and ``append``, where it has them and the job does not give them, come from there.
A catalogue of a simulated archive is off where the archive is another: units then see an empty one.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from ampel_spark.document import Document
from ampel_spark.errors import LakeError, nearest
from ampel_spark.job.configuration.model import CatalogEntry, CatalogSource
from ampel_spark.lake.lost import check_whole, explained
from ampel_spark.lake.runs import CatalogInput
from ampel_spark.problems import entries, models_at, read_model
from ampel_spark.settings import find_conf

if TYPE_CHECKING:
    from ampel_spark.sky.sources import CatalogSettings

__all__ = [
    "build_catalogs",
    "catalog_config",
    "catalog_inputs",
    "empty_catalog",
    "load_settings",
    "named_catalogs",
    "paths_in",
    "replaced",
    "star_files",
    "unknown_catalog",
]


def build_catalogs(
    document: Document, base: Path, folder: Path | None, notes: list[str], lake: Path
) -> dict[str, CatalogSource]:
    """Return the catalogues of a job.

    Parameters
    ----------
    document : Document
        The job.
    base : Path
        Folder that paths are relative to.
    folder : Path or None
        Folder of the simulated archive, if the job has one.
    notes : list of str
        Takes a line for each catalogue that is off, and one for each that is pinned here.
    lake : Path
        Where catalogues of the lake are.
    """
    found = {}
    for name, entry in entries(document, "catalog", CatalogEntry):
        where = ["catalog", name]
        file, version = None, None
        if sum(given is not None for given in (entry.file, entry.simulated, entry.lake)) != 1:
            document.problem(
                where,
                "give either 'lake', a catalogue of the lake, 'file', a path, or 'simulated',"
                " a file of the simulated archive",
            )
        elif entry.lake is not None:
            file, version = _of_lake(document, where, entry, lake, notes)
        elif entry.file is not None:
            file = Path(os.path.normpath(base / Path(entry.file).expanduser()))
            file = file if _is_good(document, where, entry, file) else None
        elif folder is not None:
            file = folder / str(entry.simulated)
        else:
            notes.append(
                f"catalogue {name} is off: it comes with the simulated archive,"
                " and the archive is another"
            )
        off = entry.simulated is not None and file is None
        found[name] = CatalogSource(
            name, file, entry.simulated, off, entry.ra, entry.dec, entry.columns,
            entry.lake, version, entry.id,
        )  # fmt: skip
    return found


def catalog_inputs(catalogs: Mapping[str, CatalogSource]) -> dict[str, CatalogInput]:
    """Return what a run records of its catalogues: by name, where they are, version and hash."""
    from ampel_spark.events.reading import content_hash, holds_events
    from ampel_spark.sky.catalogs import open_catalog

    found: dict[str, CatalogInput] = {}
    for catalog in catalogs.values():
        if catalog.file is None:
            continue
        if holds_events(catalog.file):
            known = content_hash(catalog.file, catalog.version)
        else:
            known = open_catalog(
                catalog.file, catalog.version, catalog.ra, catalog.dec, catalog.columns, catalog.id
            ).content_hash
        found[catalog.name] = (
            CatalogInput(catalog.lake, catalog.version, hash=known)
            if catalog.lake
            else CatalogInput(file=str(catalog.file), hash=known)
        )
    return found


def named_catalogs(document: Document) -> list[str]:
    """Return the names of the catalogues that a job enters, right or wrong."""
    section = document.content.get("catalog")
    return list(section) if isinstance(section, dict) else []


def unknown_catalog(document: Document, name: str, lake: Path) -> str:
    """Return what to say of a name that is none of a job's catalogues.

    Parameters
    ----------
    document : Document
        The job.
    name : str
    lake : Path
        Where catalogues of the lake are.
    """
    from ampel_spark.sky.store import catalog_names

    hint = nearest(name, named_catalogs(document))
    said = f"unknown catalogue, value {name!r}{hint}"
    if "mean" in hint:
        return said
    stored = catalog_names(lake)
    if name in stored:
        return f"{said}; the lake has it: enter it as catalog: {{{name}: {{lake: {name}}}}}"
    there = f" (there: {', '.join(stored)})" if stored else ""
    return (
        f"{said}; enter it as catalog: {{{name}: {{file: PATH}}}}, or {{lake: NAME}} for a"
        f" catalogue of the lake{there}, which `ampel-spark catalog add NAME FILE` puts there"
    )


def load_settings(name: str, path: Path | None = None) -> CatalogSettings:
    """Read the settings of a catalogue: a file, or that of its name in ``conf/catalogs``.

    Without either, a catalogue has positions in ``ra`` and ``dec``, and all columns are kept.

    Raises
    ------
    ConfigError
        If the file is not there, or something is wrong with it.
    """
    from ampel_spark.sky.sources import CatalogSettings

    file = path or find_conf("catalogs", name)
    return CatalogSettings() if file is None else read_model(file, CatalogSettings)


def star_files(catalog: CatalogSource) -> list[Path]:
    """Return the files of a catalogue for the Gaia veto."""
    if catalog.file is None:
        return []
    if catalog.lake is None:
        return [catalog.file]
    from ampel_spark.sky.store import Stored

    return [Path(file) for file in Stored.open(catalog.file, catalog.version).files]


def catalog_config(
    model: type[BaseModel], config: Mapping[str, Any], catalogs: Mapping[str, CatalogSource]
) -> tuple[dict[str, Any], dict[str, CatalogSource]]:
    """Return the parameters of a unit with what its catalogues say.

    Parameters
    ----------
    model : type of BaseModel
        The unit, or a part of it.
    config : mapping
        Its parameters in the job; a ``catalog`` that is none of `catalogs` stays as it is.
    catalogs : mapping of str to CatalogSource

    Returns
    -------
    config : dict
    used : dict of str to CatalogSource
        The catalogues in it, by the path that stands for them in `config`.
    """
    filled: dict[str, Any] = {}
    used: dict[str, CatalogSource] = {}
    for key, value in config.items():
        if key not in model.model_fields:
            filled[key] = value
        elif key == "catalog" and isinstance(value, str) and value in catalogs:
            catalog = catalogs[value]
            there = catalog.file is not None and catalog.file.exists()
            path = str(catalog.file if there else empty_catalog(catalog))
            filled = _of_catalog(model, catalog) | filled | {key: path}
            used[path] = catalog
        elif isinstance(value, dict) and (part := _part(model, key)) is not None:
            filled[key], found = catalog_config(part, value, catalogs)
            used |= found
        elif isinstance(value, dict) and (part := _part(model, key, "")) is not None:
            filled[key] = {}
            for name, one in value.items():
                # the name is that of the catalogue, unless the entry says another
                named = {"catalog": name} | one if isinstance(one, dict) else one
                if isinstance(named, dict):
                    named, found = catalog_config(part, named, catalogs)
                    used |= found
                filled[key][name] = named
        else:
            filled[key] = value
    return filled, used


def _of_catalog(model: type[BaseModel], catalog: CatalogSource) -> dict[str, Any]:
    """Return what a catalogue says of the parameters that a model has."""
    usual = {
        "ra": catalog.ra,
        "dec": catalog.dec,
        "id": catalog.id,
        "version": catalog.version,
        "append": {n: n for n in catalog.columns},
    }
    return {key: value for key, value in usual.items() if key in model.model_fields}


def paths_in(
    model: type[BaseModel], config: Mapping[str, Any], where: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield place and value of the parameters that are paths and nothing more.

    A parameter that can also be a name (of a dust map) is looked up by the unit itself.
    """
    for key, value in config.items():
        field = model.model_fields.get(key)
        if field is None:
            continue
        if isinstance(value, dict) and (part := _part(model, key)) is not None:
            yield from paths_in(part, value, (*where, key))
        elif isinstance(value, dict) and (part := _part(model, key, "")) is not None:
            for name, one in value.items():
                if isinstance(one, dict):
                    yield from paths_in(part, one, (*where, key, str(name)))
        elif isinstance(value, str) and _is_path(field.annotation) and not field.metadata:
            yield (*where, key), value


def replaced(value: Any, new: Mapping[str, str]) -> Any:
    """Return parameters with each text or path that is a key of `new` replaced."""
    if isinstance(value, dict):
        return {key: replaced(part, new) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(replaced(part, new) for part in value)
    return new.get(str(value), value) if isinstance(value, str | Path) else value


def empty_catalog(catalog: CatalogSource) -> Path:
    """Return a Parquet file with the columns of a catalogue and no rows.

    It stands in for a catalogue that is off, and for one of a simulated archive that is still to be
    made. Its name says what it holds, so it is written once.
    """
    names = dict.fromkeys((catalog.ra, catalog.dec, *catalog.columns))
    schema = pa.schema([(name, pa.float64()) for name in names])
    text = hashlib.sha256(schema.to_string().encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"ampel_spark-{os.getuid()}"
    path = folder / f"{catalog.name}-empty-{text}.parquet"
    if not path.is_file():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        pq.write_table(schema.empty_table(), partial)
        partial.replace(path)
    return path


def _part(model: type[BaseModel], *path: str) -> type[BaseModel] | None:
    """Return the model of a parameter, or of what it maps any name to (the empty one)."""
    return next(iter(models_at(model, path)), None)


def _is_path(annotation: Any) -> bool:
    """Whether a parameter takes a path, perhaps beside something else."""
    of_union = get_origin(annotation) in (Union, types.UnionType)
    return Path in (get_args(annotation) if of_union else (annotation,))


def _of_lake(
    document: Document,
    where: Sequence[str | int],
    entry: CatalogEntry,
    lake: Path,
    notes: list[str],
) -> tuple[Path | None, int | None]:
    """Return folder and version of a catalogue of the lake, and note what is wrong with it."""
    from ampel_spark.events.store import EVENTS
    from ampel_spark.sky.store import Stored, folder_of

    if entry.lake == EVENTS:
        return _of_events(document, where, entry, lake, notes)
    try:
        with explained(lake):
            stored = Stored.open(folder_of(lake, str(entry.lake)), entry.version)
        check_whole(stored.path / "rows", stored.rows_version)
    except LakeError as error:
        document.problem([*where, "lake" if entry.version is None else "version"], str(error))
        return None, None
    types = stored.types()
    for i, column in enumerate(entry.columns):
        if column not in types:
            document.problem(
                [*where, "columns", i],
                f"the catalogue has no column {column!r}{nearest(column, types)}",
            )
    notes.append(
        f"catalogue {where[-1]}: {entry.lake} of the lake, version {stored.version}, "
        f"{int(stored.tiles.rows.sum())} rows, hash {stored.content_hash[:12]}"
    )
    return stored.path, stored.version


def _of_events(
    document: Document,
    where: Sequence[str | int],
    entry: CatalogEntry,
    lake: Path,
    notes: list[str],
) -> tuple[Path | None, int | None]:
    """Return folder and version of the lake's events, as `_of_lake` does of a catalogue."""
    from ampel_spark.events.store import EventTable, folder_of

    try:
        with explained(lake):
            table = EventTable.open(lake, entry.version)
            n = len(table.current)
    except LakeError as error:
        document.problem([*where, "lake" if entry.version is None else "version"], str(error))
        return None, None
    notes.append(
        f"catalogue {where[-1]}: events of the lake, version {table.version}, {n} events, "
        f"hash {table.content_hash[:12]}"
    )
    return folder_of(lake), table.version


def _is_good(
    document: Document, where: Sequence[str | int], entry: CatalogEntry, file: Path
) -> bool:
    """Note what is wrong with the file of a catalogue."""
    if not file.exists():
        document.problem([*where, "file"], f"there is no file {file}")
        return False
    if file.suffix != ".parquet" or not file.is_file():
        return True  # who reads it tells what columns it lacks
    try:
        names = pq.read_schema(file).names
    except (pa.ArrowException, OSError) as error:
        document.problem([*where, "file"], f"{file} is no Parquet file: {error}")
        return False
    asked: list[tuple[list[str | int], str]] = [(["ra"], entry.ra), (["dec"], entry.dec)]
    asked += [(["columns", i], column) for i, column in enumerate(entry.columns)]
    lacking = [(key, column) for key, column in asked if column not in names]
    for key, column in lacking:
        document.problem(
            [*where, *key], f"the file has no column {column!r}{nearest(column, names)}"
        )
    return not lacking
