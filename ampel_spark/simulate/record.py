"""The folder of a simulation: what is there, what made it, and who is at work on it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
_PREFIX, _SUFFIX = "ztf_public_", ".tar.gz"
_PACKAGES = ("numpy", "scipy", "sncosmo", "astropy", "astropy-healpix", "pyarrow")


@dataclass(frozen=True)
class Simulation:
    """A simulated archive on disk.

    Attributes
    ----------
    path : Path
        The folder: nightly ``ztf_public_YYYYMMDD.tar.gz``, tables, ``simulation.json``.
    parameters : dict
        What made it.
    alerts : int
        Packets in the archive.
    objects : dict of str to int
        Objects by kind, those without an alert included.
    nights : dict of str to int
        Packets by night (YYYYMMDD), nights without any left out.
    fresh : bool
        Whether this call made it; False if it was there already.
    """

    path: Path
    parameters: dict[str, Any]
    alerts: int
    objects: dict[str, int]
    nights: dict[str, int]
    fresh: bool

    @property
    def archives(self) -> list[Path]:
        """The nightly files in order."""
        return [self.path / archive_name(night) for night in self.nights]

    @property
    def truth(self) -> Path:
        """The table of what is true, one row for each object."""
        return self.path / TABLES[0]

    @property
    def hosts(self) -> Path:
        """The catalogue of galaxies."""
        return self.path / TABLES[1]

    @property
    def stars(self) -> Path:
        """The catalogue of stars."""
        return self.path / TABLES[2]


def archive_name(night: str) -> str:
    """Return the name of a nightly file."""
    return f"{_PREFIX}{night}{_SUFFIX}"


def existing(out: Path, parameters: dict[str, Any]) -> Simulation | None:
    """Return the simulation that is there if it is the one wanted; None if there is room for it.

    Files are compared by size, so that the answer comes at once.

    Raises
    ------
    ConfigError
        If there is another simulation, one that is damaged, or something else.
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
    """Make the folder, and hold it against other processes; a mark stays if the work is cut short.

    Raises
    ------
    ConfigError
        If another process holds it.
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
    """Remove what a simulation cut short has left; return an empty folder for spool files."""
    for path in out.iterdir():
        if path.name == _SPOOL:
            shutil.rmtree(path)
        elif path.name in TABLES or path.name.startswith(_PREFIX):
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
    """Write the record, the last of the files: what has it is complete."""
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
    """Return what the record says of a file: hash, size in bytes, packets or rows."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "bytes": path.stat().st_size, "rows": rows}


def _simulation(out: Path, record: dict[str, Any], *, fresh: bool) -> Simulation:
    nights = {
        name.removeprefix(_PREFIX).removesuffix(_SUFFIX): facts["rows"]
        for name, facts in record["files"].items()
        if name.startswith(_PREFIX)
    }
    return Simulation(out, record["parameters"], record["alerts"], record["objects"], nights, fresh)


def _software() -> dict[str, str]:
    from importlib.metadata import version

    from ampel_spark import __version__

    found = {name: version(name) for name in _PACKAGES}
    return {"ampel_spark": __version__, "python": platform.python_version(), **found}
