"""Models and bands for sncosmo, from local files alone.

sncosmo downloads what it lacks; a job must not, for its workers may have no network and its trace
names the files. So models are read from their folders, and bands by sncosmo's own loaders with the
download taken out.

A retrained SALT model is called ``salt2@PATH`` or ``salt3@PATH``, with the folder of its files or
one file in it. In results it is called by the folder's name and what is in it (`label`).
"""

from __future__ import annotations

import errno
import functools
import gzip
import inspect
import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sncosmo
from sncosmo import builtins
from sncosmo.bandpasses import _BANDPASSES
from sncosmo.models import _SOURCES

from ampel_spark.errors import ConfigError, nearest
from ampel_spark.files import Read, current
from ampel_spark.t2.fits.info import ModelInfo, read_info
from ampel_spark.trace import digest_of

__all__ = [
    "DUST_LAWS",
    "MODELS",
    "OWN_MODEL",
    "ab_offset",
    "band_names",
    "bandpass",
    "data_dir",
    "is_salt",
    "label",
    "model",
    "model_dir",
    "model_files",
    "model_info",
    "model_names",
    "shifted",
    "source",
    "wave_range",
]

Array = npt.NDArray[np.float64]


class _Salt3(sncosmo.SALT3Source):  # type: ignore[misc]
    """SALT3 whose floor on the model's variance is a relative one, as in SALT2.

    Where the interpolated variance is negative, sncosmo 2.13 puts 1e-4 in its place before dividing
    by the square of the flux, whose natural size is 1e-24. The point then has no weight, and with
    it the pseudo-inverse of the covariance drops all others: chi2 is 1e-24, the fit "succeeds".
    """

    def _bandflux_rvar_single(self, band: sncosmo.Bandpass, phase: Array) -> Array:
        variance: Array = super()._bandflux_rvar_single(band, phase)
        x1 = self._parameters[1]
        v00, v01, v11 = (
            self._model[key](phase, band.wave_eff)[:, 0] for key in ("LCRV00", "LCRV01", "LCRV11")
        )
        # snfit's floor; sncosmo's 1e4 for a negative flux stays.
        negative = (v00 + 2.0 * x1 * v01 + x1 * x1 * v11 < 0.0) & (variance != 1e4)
        return np.where(negative, 1e-4, variance)


_SALT2, _SALT3 = sncosmo.SALT2Source, _Salt3

#: SALT models by name and version: their folder in sncosmo's data folder, and what reads it.
MODELS: dict[str, tuple[str, type[Any]]] = {
    "salt2/2.0": ("models/salt2/salt2-2-0", _SALT2),
    "salt2/2.4": ("models/salt2/salt2-4", _SALT2),
    "salt2/T21": ("models/salt2/salt2-T21", _SALT2),
    "salt2/B22": ("models/salt2/salt2-Pan+", _SALT2),
    "salt2/T23": ("models/salt2/salt2-k21-frag", _SALT2),
    "salt2-extended/1.0": ("models/snana/salt2_extended", _SALT2),
    "salt2-extended/2.0": ("models/pierel/salt2-extended", _SALT2),
    "salt3/1.0": ("models/salt3/salt3-k21", _SALT3),
    "salt3/2.0": ("models/salt3/salt3-f22", _SALT3),
    "salt3-nir/1.0": ("models/salt3-nir/salt3nir-p22", _SALT3),
}

#: How a SALT model in a folder is called.
OWN_MODEL = re.compile(r"(salt[23])@(.+)")

#: Effective wavelengths in the rest frame that fits take, Å, where no INFO file says it. SALT2 is
#: trained from the near UV to 7000 Å (Guy et al. 2010, Betoule et al. 2014); SALT3 with bands up to
#: a central wavelength of 8700 Å (Kenworthy et al. 2021, doi:10.3847/1538-4357/ac30d8). Below
#: 3000 Å both vary more than they say. Extended models were made to go farther.
_WAVE_RANGES: dict[str, tuple[float, float] | None] = {
    "salt2": (3000.0, 7000.0),
    "salt3": (3000.0, 8700.0),
}

#: Folders of models by their label, as far as this process knows them.
_LABELLED: dict[str, str] = {}

#: Milky-Way extinction laws.
DUST_LAWS = {"CCM89": sncosmo.CCM89Dust, "O94": sncosmo.OD94Dust, "F99": sncosmo.F99Dust}


def data_dir() -> Path:
    """Return sncosmo's data folder.

    That is ``SNCOSMO_DATA_DIR``, else what sncosmo's configuration names, else the model data that
    the set-up put into this Python environment.
    """
    given = os.environ.get("SNCOSMO_DATA_DIR") or sncosmo.conf.data_dir
    return Path(given or Path(sys.prefix) / "share" / "ampel_spark" / "sncosmo_data").absolute()


def model_names() -> list[str]:
    """Return the names, with versions, of SALT models and of all others that sncosmo has."""
    others = (f"{name}/{version}" for name, version in _SOURCES._loaders if version)
    return [*MODELS, *sorted(name for name in others if name not in MODELS)]


def is_salt(name: str) -> bool:
    """Say whether a model is a SALT model."""
    return name in MODELS or OWN_MODEL.fullmatch(name) is not None


def model_dir(name: str) -> Path:
    """Return the folder of a SALT model.

    Parameters
    ----------
    name : str
        One of `MODELS`, ``salt2@PATH`` or ``salt3@PATH``, or a `label` of this process.

    Raises
    ------
    ConfigError
        If there is no such model, or its files are not there.
    """
    if "#" in name:
        return _labelled_dir(name)
    if own := OWN_MODEL.fullmatch(name):
        return _own_dir(name, Path(own[2]))
    if name not in MODELS:
        raise ConfigError(f"no model {name!r}{nearest(name, MODELS)} (always with its version)")
    folder = data_dir() / MODELS[name][0]
    if not folder.is_dir():
        raise _absent(name, MODELS[name][0])
    return folder


def model_files(name: str) -> tuple[Path, ...]:
    """Return what a model is read from: a SALT model's folder, or files.

    Raises
    ------
    ConfigError
        If there is no such model, or its files are not there.
    """
    if is_salt(name):
        return (model_dir(name),)
    return current(_other_source, name, data_dir()).files


def source(name: str) -> sncosmo.Source:
    """Return a source, read once in a process while its files stay; nobody may change it.

    Parameters
    ----------
    name : str
        One of `model_names`.

    Raises
    ------
    ConfigError
        If there is no such model, or its files are not there.
    """
    if is_salt(name):
        return current(_source, model_dir(name), _kind(name), label(name)).what
    return current(_other_source, name, data_dir()).what


def label(name: str) -> str:
    """Return what a model is called in results: by its content where it is in a folder of its own.

    ``salt2@PATH`` is ``salt2@FOLDER#DIGEST``, the folder's name and the first 12 digits of the hash
    of its files. Names with a version, and labels, are called as they are.
    """
    own = OWN_MODEL.fullmatch(name)
    if own is None or "#" in name:
        return name
    folder = model_dir(name)
    text = f"{own[1]}@{folder.name}#{current(_digest, folder).what[:12]}"
    _LABELLED[text] = f"{own[1]}@{folder}"
    return text


def model_info(name: str) -> ModelInfo:
    """Return what the SALT2.INFO or SALT3.INFO of a SALT model says; nothing where there is none.

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    info: ModelInfo = current(_info, model_dir(name)).what
    return info


def wave_range(name: str) -> tuple[float, float] | None:
    """Return the effective wavelengths in the rest frame that fits of a model take, Å.

    None for all that the model covers. The model's INFO file says it, else what SALT2 and SALT3 are
    trained on.
    """
    if not is_salt(name):
        return None
    return model_info(name).wave_range or _WAVE_RANGES.get(re.split("[/@]", name)[0])


def model(name: str, dust_law: str | None = None) -> sncosmo.Model:
    """Return a new model.

    Parameters
    ----------
    name : str
        One of `model_names`.
    dust_law : str, optional
        One of `DUST_LAWS`: dust in the observer's frame, with parameter ``mwebv`` (and R_V 3.1).
    """
    if dust_law is None:
        return sncosmo.Model(source(name))
    return sncosmo.Model(source(name), [DUST_LAWS[dust_law]()], ["mw"], ["obs"])


def band_names() -> list[str]:
    """Return the names of the bands that sncosmo has, wherever their curves are."""
    return sorted(name for name, _ in _BANDPASSES._loaders)


def bandpass(name: str) -> tuple[sncosmo.Bandpass | None, Path | None]:
    """Return a band and its file; None for both where it is not in the data folder.

    The bands that come inside sncosmo (Bessell's) have no file.
    """
    try:
        found = current(_bandpass, name, data_dir())
    except FileNotFoundError:
        return None, None
    return found.what, found.files[0] if found.files else None


@functools.lru_cache(maxsize=64)
def shifted(band: sncosmo.Bandpass, shift: float) -> sncosmo.Bandpass:
    """Return a band moved by so many Å to the red; its AB zero point moves with it."""
    if not shift:
        return band
    return sncosmo.Bandpass(band.wave + shift, band.trans, name=f"{band.name}{shift:+g}A")


def standards() -> tuple[Path, ...]:
    """Return the folder of the standards' spectra, by which magnitude systems are; none without."""
    folder = data_dir() / "spectra"
    return (folder,) if folder.is_dir() else ()


def ab_offset(system: str, band: sncosmo.Bandpass, name: str) -> float:
    """Return what makes a zero point of a magnitude system an AB one [mag].

    NaN where sncosmo has no such system, lacks its files, or the system says nothing of the band. A
    system of named bands (such as JLA's) knows a shifted band by its `name`.
    """
    with _no_download(data_dir()):
        try:
            found = sncosmo.get_magsystem(system)
        except Exception as error:  # sncosmo has no better class for a name that it does not know
            if isinstance(error, FileNotFoundError) or "not in registry" in str(error):
                return float("nan")
            raise
        for each in (band, name):
            try:
                ratio = found.zpbandflux(each) / sncosmo.get_magsystem("ab").zpbandflux(band)
            except (ValueError, FileNotFoundError):
                continue
            return float(-2.5 * np.log10(ratio))
    return float("nan")


def _kind(name: str) -> type[Any]:
    if name in MODELS:
        return MODELS[name][1]
    return _SALT2 if name.startswith("salt2@") else _SALT3


def _labelled_dir(name: str) -> Path:
    """Return the folder of a model that results call by its content."""
    known = _LABELLED.get(name)
    if known is None:
        raise ConfigError(
            f"model {name}: where its folder lies is not in the results: build the job's unit first"
        )
    if label(known) != name:
        raise ConfigError(f"model {name}: its files ({known}) have changed since")
    return model_dir(known)


def _own_dir(name: str, path: Path) -> Path:
    if "#" in str(path):
        raise ConfigError(f"model {name}: a folder with # in its name cannot be taken: rename it")
    folder = path if path.is_dir() else path.parent
    start = name[:5]
    if not path.exists() or not any(
        (folder / f"{start}_template_0.dat{end}").is_file() for end in ("", ".gz")
    ):
        what = "lacks" if path.exists() else "is not there: a model needs"
        raise ConfigError(f"model {name}: {folder} {what} {start}_template_0.dat")
    return folder


@functools.lru_cache(maxsize=64)
def _digest(folder: Path) -> Read:
    return Read.of(digest_of(folder), [folder])


@functools.lru_cache(maxsize=64)
def _info(folder: Path) -> Read:
    return Read.of(read_info(folder), [folder])


@functools.lru_cache(maxsize=32)  # a grid of variations takes turns
def _source(folder: Path, kind: type[Any], name: str) -> Read:
    source, _, version = name.partition("/") if name in MODELS else name.partition("#")
    try:
        loaded = kind(modeldir=str(folder), name=source, version=version, **_unpacked(folder, kind))
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"model {name} in {folder} cannot be read: {error}") from None
    return Read.of(loaded, [folder])


def _unpacked(folder: Path, kind: type[Any]) -> dict[str, Any]:
    """Return the files of a model that are compressed, by the argument that takes each."""
    names = {
        key: each.default
        for key, each in inspect.signature(kind).parameters.items()
        if key.endswith("file")
    }
    return {
        key: io.StringIO(gzip.decompress((folder / f"{name}.gz").read_bytes()).decode())
        for key, name in names.items()
        if not (folder / name).is_file() and (folder / f"{name}.gz").is_file()
    }


@functools.lru_cache(maxsize=32)
def _other_source(name: str, folder: Path) -> Read:
    base, _, version = name.partition("/")
    entry = _SOURCES._loaders.get((base.lower(), version))
    if entry is None:
        known = model_names()
        raise ConfigError(f"no model {name!r}{nearest(name, known)} (always with its version)")
    loader, arguments, _ = entry
    with _no_download(folder) as files:
        try:
            loaded = loader(*arguments, name=base, version=version)
        except FileNotFoundError as error:
            path = Path(error.filename or str(error))
            raise _absent(name, str(path.relative_to(folder))) from None
    return Read.of(loaded, list(dict.fromkeys(files)))


def _absent(name: str, path: str) -> ConfigError:
    return ConfigError(
        f"model {name} is not in {data_dir()}: put it at {path} there, "
        "or let SNCOSMO_DATA_DIR name a data folder of sncosmo that has it"
    )


@functools.lru_cache(maxsize=64)
def _bandpass(name: str, folder: Path) -> Read:
    # By the registry's loader and not through the registry, which keeps bands of other folders.
    entry = _BANDPASSES._loaders.get((name.lower(), None))
    if entry is None:
        return Read.of(None, [])
    loader, arguments, _ = entry
    with _no_download(folder) as files:
        band = loader(*arguments, name=name)
    if not isinstance(band, sncosmo.Bandpass):
        return Read.of(None, [])  # bands that vary over the focal plane
    return Read.of(band, files[:1])


@contextmanager
def _no_download(folder: Path) -> Iterator[list[Path]]:
    """Have sncosmo look for its data in `folder` and nowhere else."""
    files: list[Path] = []

    def abspath(relpath: str, isdir: bool = False) -> str:
        path = folder / relpath
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "not in the data folder", str(path))
        files.append(path)
        return str(path)

    builtins.DATADIR.abspath = abspath
    try:
        yield files
    finally:
        del builtins.DATADIR.abspath
