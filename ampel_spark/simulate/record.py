"""The folder of a simulation: its record, its files, and the lock of the process that writes it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ampel_spark import __version__
from ampel_spark.errors import ConfigError

__all__ = [
    "TABLES",
    "Simulation",
    "archive_name",
    "claimed",
    "clear",
    "existing",
    "finish",
    "of_file",
]

TABLES = ("truth.parquet", "hosts.parquet", "stars.parquet")

_RECORD, _MARK, _SPOOL = "simulation.json", ".simulating", ".spool"
_PREFIXES, _SUFFIX = {"ztf": "ztf_public_", "lsst": "lsst_alerts_"}, ".tar.gz"
_PACKAGES = ("numpy", "scipy", "sncosmo", "astropy", "astropy-healpix", "pyarrow")


@dataclass(frozen=True)
class Simulation:
    """A simulated archive on disk.

    Attributes
    ----------
    path : Path
        The folder: nightly ``ztf_public_YYYYMMDD.tar.gz`` (``lsst_alerts_…``), tables,
        ``simulation.json``.
    parameters : dict
        The parameters of the simulation.
    alerts : int
        The number of packets in the archive.
    objects : dict of str to int
        The number of objects of each kind, those without an alert included.
    nights : dict of str to int
        The number of packets of each night (YYYYMMDD) that has packets.
    fresh : bool
        True if this call made it; False if it was present already.
    """

    path: Path
    parameters: dict[str, Any]
    alerts: int
    objects: dict[str, int]
    nights: dict[str, int]
    fresh: bool

    @property
    def archives(self) -> list[Path]:
        """The nightly files, in order."""
        survey = self.parameters.get("survey", "ztf")
        return [self.path / archive_name(night, survey) for night in self.nights]

    @property
    def truth(self) -> Path:
        """The table of true values, one row for each object."""
        return self.path / TABLES[0]

    @property
    def hosts(self) -> Path:
        """The catalogue of galaxies."""
        return self.path / TABLES[1]

    @property
    def stars(self) -> Path:
        """The catalogue of stars."""
        return self.path / TABLES[2]


def archive_name(night: str, survey: str = "ztf") -> str:
    """Return the name of a nightly file."""
    return f"{_PREFIXES[survey]}{night}{_SUFFIX}"


def existing(out: Path, parameters: dict[str, Any]) -> Simulation | None:
    """Return the simulation in a folder if its parameters are these; None for an empty folder.

    Files are compared by size only, which is fast.

    Raises
    ------
    ConfigError
        If the folder holds another simulation, a damaged one, or other files.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file: name a folder for the simulation")
    if not (out / _RECORD).exists():
        others = [path.name for path in out.iterdir()] if out.exists() else []
        if others and _MARK not in others:
            raise ConfigError(
                f"{out} is not empty ({min(others)!r} and so on) and holds no simulation: "
                "name an empty folder or one that does not exist"
            )
        return None
    record = json.loads((out / _RECORD).read_text())
    found = record["parameters"]
    if found != parameters:
        differences = ", ".join(
            f"{name} {found.get(name)!r} instead of {value!r}"
            for name, value in parameters.items()
            if found.get(name) != value
        )
        raise ConfigError(
            f"{out} holds another simulation ({differences}): name another folder, or remove it"
        )
    for name, facts in record["files"].items():
        path = out / name
        if not path.is_file() or path.stat().st_size != facts["bytes"]:
            raise ConfigError(
                f"{out} holds this simulation, but {name} is missing or not as it was written: "
                "remove the folder to have it made anew"
            )
    return _simulation(out, record, fresh=False)


@contextlib.contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Make the folder, and lock it against other processes; a mark stays if the work is killed.

    Raises
    ------
    ConfigError
        If another process has the lock.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / _MARK).open("a") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"another process is simulating into {out}: wait for it") from None
        yield
        (out / _MARK).unlink(missing_ok=True)


def clear(out: Path) -> Path:
    """Remove the files of a killed simulation, and return an empty folder for spool files."""
    for path in out.iterdir():
        if path.name == _SPOOL:
            shutil.rmtree(path)
        elif path.name in TABLES or path.name.startswith(tuple(_PREFIXES.values())):
            path.unlink()
    (out / _SPOOL).mkdir()
    return out / _SPOOL


def finish(
    out: Path,
    parameters: dict[str, Any],
    alerts: int,
    objects: dict[str, int],
    files: dict[str, Any],
) -> Simulation:
    """Write the record as the last file; a folder with a record is complete."""
    record = {
        "parameters": parameters,
        "software": _software(),
        "alerts": alerts,
        "objects": objects,
        "files": files,
    }
    shutil.rmtree(out / _SPOOL)
    temporary = out / f"{_RECORD}.part"
    temporary.write_text(json.dumps(record, indent=2) + "\n")
    temporary.rename(out / _RECORD)
    return _simulation(out, record, fresh=True)


def of_file(path: Path, rows: int) -> dict[str, Any]:
    """Return the record's entry of a file: hash, size in bytes, number of packets or rows."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "bytes": path.stat().st_size, "rows": rows}


def _simulation(out: Path, record: dict[str, Any], *, fresh: bool) -> Simulation:
    prefix = _PREFIXES[record["parameters"].get("survey", "ztf")]
    nights = {
        name.removeprefix(prefix).removesuffix(_SUFFIX): facts["rows"]
        for name, facts in record["files"].items()
        if name.startswith(prefix)
    }
    return Simulation(out, record["parameters"], record["alerts"], record["objects"], nights, fresh)


def _software() -> dict[str, str]:
    found = {name: version(name) for name in _PACKAGES}
    return {"ampel_spark": __version__, "python": platform.python_version(), **found}
