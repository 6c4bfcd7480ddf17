"""Milky-Way reddening E(B-V) from a HEALPix map.

A map is a FITS file with one column of E(B-V) in magnitudes. A sidecar, a small YAML file, adds
what its header does not say (common low-resolution maps lack ``COORDSYS``):

.. code-block:: yaml

    file: quickstart.fits      # beside the sidecar, unless another path is given
    ordering: ring             # or nested
    frame: galactic            # or icrs
    scale: 1.0                 # factor on the map's values
    licence: BSD-3-Clause
    citation: whom to credit

The project comes with one map, ``conf/dust/quickstart.fits``. It is a *toy* (`toy_map`): a thin
disc and random smooth structure. Its values resemble those of the Milky Way in size only; real
extinctions need a measured map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ampel_spark.bounds import check_fits
from ampel_spark.document import read_document
from ampel_spark.errors import ConfigError

__all__ = ["DustMap", "galactic", "toy_map", "write_map"]

# Rotation from ICRS to Galactic coordinates (ESA SP-1200, Hipparcos volume 1, eq. 1.5.11).
_ICRS_TO_GALACTIC = np.array(
    [
        [-0.0548755604162154, -0.8734370902348850, -0.4838350155487132],
        [0.4941094278755837, -0.4448296299600112, 0.7469822444972189],
        [-0.8676661490190047, -0.1980763734312015, 0.4559837761750669],
    ]
)
_FRAMES = {"g": "galactic", "galactic": "galactic", "c": "icrs", "icrs": "icrs"}
_ORDERINGS = {"ring": "ring", "nested": "nested", "nest": "nested"}
# The value that HEALPix software writes for "not observed".
_UNSEEN = -1e30


@dataclass(frozen=True, eq=False)
class DustMap:
    """A full-sky map of E(B-V).

    Attributes
    ----------
    values : array with shape (12 nside^2,)
        E(B-V) before the scale, mag.
    ordering : str
        ``"ring"`` or ``"nested"``.
    frame : str
        ``"galactic"`` or ``"icrs"``.
    scale : float
        Factor on the values, such as 0.86 for the recalibration of the SFD scale by Schlafly and
        Finkbeiner (2011, doi:10.1088/0004-637X/737/2/103).
    name : str
        The map's name, for records.

    Examples
    --------
    >>> toy_map().ebv([266.4, 192.9], [-28.9, 27.1]).round(2).tolist()
    [1.24, 0.02]
    """

    values: NDArray[np.float64]
    ordering: str = "ring"
    frame: str = "galactic"
    scale: float = 1.0
    name: str = ""

    @property
    def nside(self) -> int:
        """HEALPix resolution parameter."""
        return math.isqrt(self.values.size // 12)

    @classmethod
    def read(
        cls,
        path: str | Path,
        *,
        scale: float = 1.0,
        ordering: str | None = None,
        frame: str | None = None,
        sidecar: str | Path | None = None,
    ) -> DustMap:
        """Read a map.

        Parameters
        ----------
        path : path
            The FITS file, or its sidecar (``.yml``), which then names the file.
        scale : float, optional
            Factor on the values, multiplied with the sidecar's own.
        ordering, frame : str, optional
            ``"ring"`` or ``"nested"``; ``"galactic"`` or ``"icrs"``. Values given here win over
            the sidecar, and the sidecar wins over the header.
        sidecar : path, optional
            A sidecar in another folder than the FITS file. By default, a file of the same name
            with the ending ``.yml`` is read if it exists.

        Raises
        ------
        ConfigError
            If the file is no full-sky HEALPix map, or if its ordering or frame is unknown.
        """
        fits_path, notes = _resolve(Path(path), None if sidecar is None else Path(sidecar))
        values, header = _column(fits_path)
        found_ordering = ordering or notes.get("ordering") or header.get("ORDERING")
        found_frame = frame or notes.get("frame") or header.get("COORDSYS")
        return cls(
            values,
            _choice(fits_path, "ordering", found_ordering, _ORDERINGS),
            _choice(fits_path, "frame", found_frame, _FRAMES),
            scale * _factor(fits_path, notes.get("scale", 1.0)),
            fits_path.stem,
        )

    def ebv(self, ra: ArrayLike, dec: ArrayLike, *, nearest: bool = False) -> NDArray[np.float64]:
        """Return E(B-V) at positions.

        Parameters
        ----------
        ra, dec : array-like
            Positions, degrees ICRS; broadcast together.
        nearest : bool, optional
            True: use the value of the pixel that holds the position. By default, four pixels are
            interpolated (HEALPix's bilinear interpolation).

        Returns
        -------
        array
            E(B-V), mag, in the shape of the positions.

        Raises
        ------
        ConfigError
            If a position is not finite or beyond a pole, or if the map has no value there.
        """
        from astropy import units
        from astropy_healpix import bilinear_interpolation_weights, lonlat_to_healpix

        ra_, dec_ = np.broadcast_arrays(np.asarray(ra, float), np.asarray(dec, float))
        bad = ~(np.isfinite(ra_) & (np.abs(dec_) <= 90.0))
        if bad.any():
            first = np.unravel_index(int(np.argmax(bad)), bad.shape)
            raise ConfigError(
                f"no reddening at ra={ra_[first]}, dec={dec_[first]} ({bad.sum()} of {bad.size} "
                "positions): right ascension must be finite, declination within -90 to 90 degrees"
            )
        lon, lat = galactic(ra_, dec_) if self.frame == "galactic" else (ra_ % 360.0, dec_)
        where = lon.ravel() * units.deg, lat.ravel() * units.deg, self.nside
        if nearest:
            ebv = self.values[lonlat_to_healpix(*where, order=self.ordering)]
        else:
            pixels, weights = bilinear_interpolation_weights(*where, order=self.ordering)
            ebv = np.sum(self.values[pixels] * weights, axis=0)
        if not np.isfinite(ebv).all():
            raise ConfigError(
                f"dust map {self.name!r} has no value at {int((~np.isfinite(ebv)).sum())} of "
                f"{ebv.size} positions: use a full-sky map"
            )
        return np.asarray(self.scale * ebv).reshape(ra_.shape)


def galactic(ra: ArrayLike, dec: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Galactic longitude and latitude (degrees) of ICRS positions (degrees).

    This is a plain rotation, much cheaper than a frame of astropy. The two agree to 0.1 arcsec, as
    astropy goes through FK5.

    Examples
    --------
    >>> lon, lat = galactic(266.405, -28.936)
    >>> print(f"{lon:.2f} {lat:.2f}")
    0.00 0.00
    """
    ra_, dec_ = np.radians(np.asarray(ra, float)), np.radians(np.asarray(dec, float))
    vector = np.stack([np.cos(dec_) * np.cos(ra_), np.cos(dec_) * np.sin(ra_), np.sin(dec_)])
    x, y, z = np.tensordot(_ICRS_TO_GALACTIC, vector, axes=1)
    return np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))


def toy_map() -> DustMap:
    """Return the project's own small map: NSIDE 32, RING, Galactic, values in steps of 1e-4 mag.

    E(B-V) = 0.018 (sin^2 b + 0.02^2)^(-1/2) (1 + 0.35 cos l cos b) exp(0.3 s), where s is the sum
    of 60 plane waves of random direction and phase (seed 1998), with a mean variance of 1. Values
    are typical of the Milky Way at high latitude (0.02-0.05 mag) and in the plane (about 1 mag),
    but the map has none of its clouds.
    """
    from astropy_healpix import healpix_to_lonlat

    nside = 32
    lon, lat = (a.to_value("rad") for a in healpix_to_lonlat(np.arange(12 * nside**2), nside))
    vector = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    random = np.random.RandomState(1998)  # this generator's stream is frozen, see NumPy's NEP 19
    waves = random.normal(size=(60, 3))
    waves *= (random.uniform(2.0, 14.0, 60) / np.sqrt(np.sum(waves**2, axis=1)))[:, None]
    phases = random.uniform(0.0, 2.0 * np.pi, 60)
    # Sums of products, not a matrix product: its order of additions is the library's own.
    structure = np.zeros(lon.size)
    for (x, y, z), phase in zip(waves, phases, strict=True):
        structure += np.cos(x * vector[0] + y * vector[1] + z * vector[2] + phase)
    disc = 0.018 / np.sqrt(np.sin(lat) ** 2 + 0.02**2) * (1.0 + 0.35 * np.cos(lon) * np.cos(lat))
    values = np.round(disc * np.exp(0.3 * structure / np.sqrt(30.0)), 4).astype(np.float32)
    return DustMap(values.astype(np.float64), "ring", "galactic", 1.0, "quickstart")


def write_map(dust: DustMap, path: str | Path, *, origin: str = "") -> None:
    """Write the values of a map (without its scale) as a HEALPix FITS file.

    Parameters
    ----------
    dust : DustMap
        The map; its values are written in single precision.
    path : path
        The file; an existing file is replaced.
    origin : str, optional
        The source of the values, for the header.
    """
    from astropy.io import fits

    column = fits.Column(name="EBV", format="E", unit="mag", array=dust.values.astype(np.float32))
    table = fits.BinTableHDU.from_columns([column])
    table.header.update(
        PIXTYPE="HEALPIX",
        ORDERING=dust.ordering.upper(),
        COORDSYS="G" if dust.frame == "galactic" else "C",
        NSIDE=dust.nside,
        FIRSTPIX=0,
        LASTPIX=dust.values.size - 1,
        INDXSCHM="IMPLICIT",
        OBJECT="FULLSKY",
        ORIGIN=origin,
    )
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path, overwrite=True)


def _resolve(path: Path, sidecar: Path | None) -> tuple[Path, dict[str, Any]]:
    """Return the FITS file, and the content of its sidecar."""
    if sidecar is None and path.suffix in (".yml", ".yaml"):
        notes = _notes(path)
        if not isinstance(notes.get("file"), str):
            raise ConfigError(f"{path}: no 'file:' that names the FITS file of the map")
        path = path.parent / notes["file"]
    else:
        beside = path.with_suffix(".yml")
        notes = _notes(sidecar) if sidecar else _notes(beside) if beside.exists() else {}
    if not path.is_file():
        raise ConfigError(f"dust map {path} is not there: give the path of a HEALPix FITS file")
    return path, notes


def _notes(path: Path) -> dict[str, Any]:
    """Return what a sidecar says: a mapping with file, ordering, frame and scale."""
    document = read_document(path)
    document.check()
    return document.content


def _column(path: Path) -> tuple[NDArray[np.float64], Any]:
    """Return the first column of the first table of a FITS file, and the table's header."""
    from astropy.io import fits

    try:
        with fits.open(path) as units:
            check_fits(units, path)
            tables = [unit for unit in units if isinstance(unit, fits.BinTableHDU)]
            if not tables:
                raise ConfigError(f"{path} has no table: a HEALPix map is a BINTABLE")
            header = tables[0].header
            values = np.asarray(tables[0].data.field(0), np.float64).ravel()
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: cannot read it as a FITS file: {error}") from error
    nside = math.isqrt(values.size // 12)
    if values.size == 0 or 12 * nside**2 != values.size or nside & (nside - 1):
        raise ConfigError(f"{path} has {values.size} values: a full sky has 12 NSIDE^2, NSIDE 2^k")
    return np.where(values < _UNSEEN, np.nan, values), header


def _choice(path: Path, what: str, value: object, choices: dict[str, str]) -> str:
    found = choices.get(str(value).strip().lower())
    if found is None:
        raise ConfigError(
            f"{path}: {what} is {value!r}; say one of {', '.join(sorted(set(choices.values())))} "
            "as an argument or in a sidecar"
        )
    return found


def _factor(path: Path, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigError(f"{path}: scale is {value!r}; it must be a positive number")
    return float(value)
