"""Many light curves as flat arrays: what goes into a fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ampel_spark.errors import AmpelSparkError

__all__ = ["LightCurveError", "LightCurves", "owned"]

Array = NDArray[np.float64]


def owned(values: ArrayLike, kind: type) -> NDArray[Any]:
    """Return an array of `kind` in one piece that may be written to; a copy only where need be.

    Compiled code is compiled anew for other layouts, and for arrays that are read-only (as
    Arrow's).
    """
    return np.require(np.asarray(values), dtype=kind, requirements=["C", "W"])


class LightCurveError(AmpelSparkError):
    """Arrays of light curves that do not fit together, or with the fitter."""


@dataclass(frozen=True)
class LightCurves:
    """Photometry of n objects, N points in all, in any order within an object.

    Values are taken as they are: points that cannot be used (not finite, error not positive,
    unknown band) are left out by the fit, which says so. Arrays that do not match are an error.

    Parameters
    ----------
    offsets : ndarray of int64, shape (n + 1,)
        Points of object i are those from ``offsets[i]`` up to ``offsets[i + 1]``.
    time : ndarray, shape (N,)
        Times in days, observer frame.
    flux, fluxerr : ndarray, shape (N,)
        Flux and its error, in units of the zero point.
    band : ndarray of int, shape (N,)
        Number of the bandpass in the fitter's list; -1 for a band that is not in it.
    zp : float or ndarray, shape (N,)
        Zero point, magnitudes.
    zpsys : int or ndarray of int, shape (N,)
        Number of the zero point's magnitude system in the fitter's list.
    fluxcov : sequence of ndarray, optional
        For each object the covariance of its fluxes, shape (n_i, n_i), or an empty array for
        independent errors. `fluxerr` must be given all the same.
    """

    offsets: NDArray[np.int64]
    time: Array
    flux: Array
    fluxerr: Array
    band: NDArray[np.int32]
    zp: ArrayLike = 25.0
    zpsys: ArrayLike = 0
    fluxcov: Sequence[ArrayLike] | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        offsets = owned(self.offsets, np.int64)
        put(self, "offsets", offsets)
        if offsets.ndim != 1 or len(offsets) < 1:
            raise LightCurveError("offsets: one number more than there are light curves")
        if offsets[0] < 0 or np.any(np.diff(offsets) < 0):
            raise LightCurveError("offsets must start at 0 or above and not decrease")
        n_points = int(offsets[-1])
        for name in ("time", "flux", "fluxerr"):
            values = owned(getattr(self, name), np.float64)
            if values.shape != (n_points,):
                raise LightCurveError(
                    f"{name} has shape {values.shape}, but offsets end at {n_points}"
                )
            put(self, name, values)
        kinds = (("band", np.int32), ("zp", np.float64), ("zpsys", np.int32))
        for name, kind in kinds:
            values = np.asarray(getattr(self, name))
            if kind is np.int32 and values.dtype.kind not in "iu":
                raise LightCurveError(f"{name} must be integers (see SaltFitter.band_index)")
            try:
                values = np.broadcast_to(values, (n_points,))
            except ValueError:
                raise LightCurveError(
                    f"{name} has shape {values.shape}, but offsets end at {n_points}"
                ) from None
            put(self, name, owned(values, kind))
        if self.fluxcov is not None:
            sizes = np.diff(offsets)
            if len(self.fluxcov) != len(sizes):
                raise LightCurveError(
                    f"fluxcov has {len(self.fluxcov)} entries for {len(sizes)} light curves"
                )
            for i, matrix in enumerate(self.fluxcov):
                shape = np.shape(matrix)
                if np.size(np.asarray(matrix)) and shape != (sizes[i], sizes[i]):
                    raise LightCurveError(
                        f"fluxcov of light curve {i} has shape {shape}, expected {(sizes[i],) * 2}"
                    )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def covariance_blocks(self) -> tuple[NDArray[np.int64], Array]:
        """Return offsets and values of the covariances in one array; empty where there are none."""
        if self.fluxcov is None:
            return np.zeros(0, np.int64), np.zeros(0)
        blocks = [np.asarray(m, dtype=np.float64).ravel() for m in self.fluxcov]
        offsets = np.concatenate([[0], np.cumsum([b.size for b in blocks])]).astype(np.int64)
        return offsets, np.concatenate([*blocks, np.zeros(0)])

    @classmethod
    def from_tables(
        cls,
        tables: Iterable[Mapping[str, Any]],
        bands: Sequence[str],
        systems: Sequence[str] = ("ab",),
    ) -> LightCurves:
        """Build from tables (astropy, pandas, dicts) with sncosmo's column names.

        Columns: ``time, band, flux, fluxerr, zp, zpsys`` and, optionally, ``fluxcov`` (dicts only).
        Convenient for some light curves; many are best given as arrays.

        Parameters
        ----------
        tables : iterable of mapping
            One per object.
        bands, systems : sequence of str
            The fitter's names; a band that is not among them gets number -1.
        """
        pieces: dict[str, list[NDArray[Any]]] = {
            name: [] for name in ("time", "flux", "fluxerr", "zp", "band", "zpsys")
        }
        covariances: list[NDArray[Any]] = []
        band_number = {name: i for i, name in enumerate(bands)}
        system_number = {name: i for i, name in enumerate(systems)}
        sizes = []
        for table in tables:
            n = len(table["time"])
            sizes.append(n)
            for name in ("time", "flux", "fluxerr", "zp"):
                pieces[name].append(np.asarray(table[name], dtype=float))
            names = [str(b) for b in np.asarray(table["band"])]
            pieces["band"].append(np.array([band_number.get(b, -1) for b in names], dtype=np.int32))
            names = [str(s) for s in np.asarray(table["zpsys"])]
            unknown = set(names) - set(system_number)
            if unknown:
                raise LightCurveError(
                    f"magnitude systems {sorted(unknown)} are not among the fitter's "
                    f"{list(systems)}: give them to SaltFitter(systems=…)"
                )
            pieces["zpsys"].append(np.array([system_number[s] for s in names], dtype=np.int32))
            has_cov = isinstance(table, Mapping) and "fluxcov" in table
            covariances.append(np.asarray(table["fluxcov"]) if has_cov else np.zeros((0, 0)))
        empty = {"band": np.zeros(0, np.int32), "zpsys": np.zeros(0, np.int32)}
        flat: dict[str, Any] = {
            name: np.concatenate(values) if values else empty.get(name, np.zeros(0))
            for name, values in pieces.items()
        }
        return cls(
            offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            fluxcov=covariances if any(m.size for m in covariances) else None,
            **flat,
        )
