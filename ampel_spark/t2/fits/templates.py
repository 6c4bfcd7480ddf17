"""Spectral time series by name, by pattern, or in files."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sncosmo

from ampel_spark.errors import ConfigError
from ampel_spark.files import Read, current
from ampel_spark.t2.fits import models
from ampel_spark.templates.tables import check_source

__all__ = ["named_templates", "template_of_file", "template_paths"]


def named_templates(asked: Sequence[str]) -> list[str]:
    """Return the templates of sncosmo that names and patterns amount to, each once, in order.

    Parameters
    ----------
    asked : sequence of str
        Names with their version (``nugent-sn2p/1.2``), or patterns of such names (``nugent-*``), of
        which those in the data folder are taken.

    Raises
    ------
    ConfigError
        If a name is not known or its files are not there, or a pattern matches nothing.
    """
    found: list[str] = []
    for word in asked:
        names = [word]
        if any(sign in word for sign in "*?["):
            names = [name for name in models.model_names() if fnmatch.fnmatchcase(name, word)]
            names = [name for name in names if _is_there(name)]
        if not names:
            raise ConfigError(
                f"templates: no time series in {models.data_dir()} is called {word!r}: "
                "take names of sncosmo with their version"
            )
        for name in names:
            check_source(models.source(name))
        found += names
    return list(dict.fromkeys(found))


def template_paths(asked: Sequence[Path]) -> list[Path]:
    """Return the files that paths and patterns of paths amount to, each once, in order.

    Raises
    ------
    ConfigError
        If there is none.
    """
    found: list[Path] = []
    for path in asked:
        there = sorted(path.parent.glob(path.name))
        if not there:
            raise ConfigError(f"template_files: there is no file {path}")
        found += there
    return list(dict.fromkeys(found))


def template_of_file(path: Path) -> sncosmo.TimeSeriesSource:
    """Return the template in a file, read once in a process while the file stays.

    Parameters
    ----------
    path : Path
        Columns of phase, wavelength and flux, or a FITS image as sncosmo reads them.

    Raises
    ------
    ConfigError
        If the file holds no such thing.
    """
    return current(_read, path).what


def _is_there(name: str) -> bool:
    if name in models.MODELS:
        return False
    try:
        check_source(models.source(name))
    except ConfigError:
        return False
    return True


@functools.lru_cache(maxsize=256)
def _read(path: Path) -> Read:
    read: Any = sncosmo.read_griddata_fits
    if path.suffix != ".fits":
        read = sncosmo.read_griddata_ascii
    try:
        phase, wave, flux = read(str(path))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"template {path}: {error}: give a table of phase, wavelength and flux"
        ) from error
    if len(phase) < 4 or not np.isfinite(flux).all():
        raise ConfigError(f"template {path}: give four phases or more, and finite fluxes")
    source = sncosmo.TimeSeriesSource(phase, wave, flux, zero_before=True, name=path.stem)
    return Read.of(source, [path])
