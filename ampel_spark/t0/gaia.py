"""The Gaia veto: is there a star where the alert is?

A star vetoes an alert that is nearer than its allowed distance, ``1.8 + 0.6 exp((20 - G) / 2.05)``
arcsec, and within the search radius, if its G magnitude is in range, its astrometry is clean
(``ExcessNoiseSig`` small), and its proper motion in either direction or its parallax is
significant. AMPEL asks a server for this; here the stars come from a local table with the columns
of catsHTM's Gaia DR2 (`STAR_COLUMNS`; positions in degrees).

Only stars that can veto at all are kept, in a k-d tree of unit vectors, once for each worker.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ampel_spark.errors import ConfigError, nearest
from ampel_spark.sky.angles import ARCSEC, good_positions, separation, unit_vectors

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column

    from ampel_spark.t0.filters import DecentFilter

__all__ = ["STAR_COLUMNS", "GaiaRule", "StarCatalog", "veto_column", "vetoes"]

#: Columns of a star catalogue and their units; ratios alone matter for motions and parallaxes.
STAR_COLUMNS: dict[str, str] = {
    "ra": "deg",
    "dec": "deg",
    "Mag_G": "mag",
    "PMRA": "mas/yr",
    "ErrPMRA": "mas/yr",
    "PMDec": "mas/yr",
    "ErrPMDec": "mas/yr",
    "Plx": "mas",
    "ErrPlx": "mas",
    "ExcessNoiseSig": "sigma",
}

Floats = npt.NDArray[np.float64]

_VETO = "distance double, allowed double"


@dataclass(frozen=True)
class StarCatalog:
    """A table of stars in Parquet files that every worker can read.

    Attributes
    ----------
    name : str
        What the job calls it.
    files : tuple of str
        Parquet files; together they are the table.
    content_hash : str
        Hash of the stars, whatever their order and however they are stored: 32 hexadecimal digits.
    """

    name: str
    files: tuple[str, ...]
    content_hash: str

    @classmethod
    def open(cls, name: str, paths: str | Path | Iterable[str | Path]) -> StarCatalog:
        """Read a catalogue once, check its columns, and hash it.

        Parameters
        ----------
        name : str
            What the job calls it.
        paths : path or iterable of path
            A Parquet file, a folder of them, or the files of one version of a Delta table.

        Raises
        ------
        ConfigError
            If there is no such file, or a column is missing or has positions that are none.
        """
        given = [paths] if isinstance(paths, str | Path) else list(paths)
        files = tuple(sorted(str(f) for path in given for f in _parquet_files(name, Path(path))))
        return cls(name, files, _content_hash(_read(name, files)))


@dataclass(frozen=True)
class GaiaRule:
    """The parameters of the veto, as `DecentFilter` has them."""

    rs: float
    pm_signif: float
    plx_signif: float
    gmag_min: float
    gmag_max: float
    excessnoise_sig_max: float

    @classmethod
    def of(cls, f: DecentFilter) -> GaiaRule:
        """Return the rule of a filter."""
        return cls(
            f.gaia_rs, f.gaia_pm_signif, f.gaia_plx_signif,
            f.gaia_veto_gmag_min, f.gaia_veto_gmag_max, f.gaia_excessnoise_sig_max,
        )  # fmt: skip


def vetoes(catalog: StarCatalog, rule: GaiaRule, ra: Floats, dec: Floats) -> tuple[Floats, Floats]:
    """Find, for each position, the nearest star that vetoes it.

    Parameters
    ----------
    catalog : StarCatalog
    rule : GaiaRule
    ra, dec : ndarray with shape (N,)
        Degrees, ICRS; NaN where nothing is asked.

    Returns
    -------
    distance, allowed : ndarray with shape (N,)
        Distance of that star and the distance within which it vetoes, arcsec; NaN where none does.
    """
    distance, limit = np.full(len(ra), np.nan), np.full(len(ra), np.nan)
    tree, star_ra, star_dec, allowed = _tree(catalog, rule)
    asked = np.flatnonzero(good_positions(ra, dec))
    if tree is None or not len(asked):
        return distance, limit
    places = unit_vectors(ra[asked], dec[asked])
    # A little wider than needed: the exact test comes below.
    reach = 2.0 * np.sin(0.5 * min(rule.rs, allowed.max()) * ARCSEC) * (1 + 1e-9) + 1e-14
    counts = tree.query_ball_point(places, reach, return_length=True)
    near = np.flatnonzero(counts)
    if not len(near):
        return distance, limit
    i = np.repeat(near, counts[near])
    j = np.concatenate(tree.query_ball_point(places[near], reach)).astype(np.intp)
    d = separation(ra[asked[i]], dec[asked[i]], star_ra[j], star_dec[j])
    hit = (d < allowed[j]) & (d <= rule.rs)
    i, d, a = i[hit], d[hit], allowed[j[hit]]
    order = np.lexsort((a, d, i))
    first, at = np.unique(i[order], return_index=True)
    distance[asked[first]], limit[asked[first]] = d[order][at], a[order][at]
    return distance, limit


def veto_column(catalog: StarCatalog, rule: GaiaRule, ra: Column, dec: Column) -> Column:
    """Return `vetoes` as a column: a struct of ``distance`` and ``allowed`` [arcsec], or nulls.

    Rows where `ra` is null are not asked.
    """
    import pyarrow as pa
    from pyspark.sql.pandas.functions import arrow_udf

    def veto(ra: pa.Array, dec: pa.Array) -> pa.Array:
        found = vetoes(catalog, rule, _floats(ra), _floats(dec))
        columns: list[Any] = [pa.array(values, from_pandas=True) for values in found]
        return pa.StructArray.from_arrays(columns, names=["distance", "allowed"])

    # Annotations are strings in this module, and Spark looks for the types themselves.
    veto.__annotations__ = {"ra": pa.Array, "dec": pa.Array, "return": pa.Array}
    column: Column = arrow_udf(veto, _VETO)(ra, dec)  # type: ignore[call-overload]
    return column


def _floats(column: pa.Array) -> Floats:
    return np.ascontiguousarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)


@functools.lru_cache(maxsize=4)
def _tree(catalog: StarCatalog, rule: GaiaRule) -> tuple[Any, Floats, Floats, Floats]:
    """Return a tree of the stars that can veto, their ra and dec, and how far each does."""
    from scipy.spatial import cKDTree

    s = _read(catalog.name, catalog.files)
    if _content_hash(s) != catalog.content_hash:
        raise ConfigError(
            f"catalogue {catalog.name!r} ({', '.join(catalog.files)}) changed after the plan was"
            " made: start the run again"
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        moves = (np.abs(s["PMRA"] / s["ErrPMRA"]) > rule.pm_signif) | (
            np.abs(s["PMDec"] / s["ErrPMDec"]) > rule.pm_signif
        )
        near = np.abs(s["Plx"] / s["ErrPlx"]) > rule.plx_signif
        in_range = (s["Mag_G"] >= rule.gmag_min) & (s["Mag_G"] <= rule.gmag_max)
        can = (moves | near) & in_range & (s["ExcessNoiseSig"] < rule.excessnoise_sig_max)
    ra, dec, mag = (s[name][can] for name in ("ra", "dec", "Mag_G"))
    tree = cKDTree(unit_vectors(ra, dec)) if can.any() else None
    return tree, ra, dec, 1.8 + 0.6 * np.exp((20.0 - mag) / 2.05)


def _parquet_files(name: str, path: Path) -> Sequence[Path]:
    if path.is_file():
        return [path]
    if (path / "_delta_log").is_dir():
        raise ConfigError(
            f"catalogue {name!r}: {path} is a Delta table, whose folder also holds files of other"
            " versions; give the files of one version"
        )
    files = sorted(path.rglob("*.parquet"))
    if not files:
        raise ConfigError(f"catalogue {name!r}: no Parquet file at {path}")
    return files


def _read(name: str, files: Sequence[str]) -> dict[str, Floats]:
    """Return the columns of the catalogue in one canonical order of the stars."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for file in files:
        try:
            have = pq.read_schema(file).names
        except (OSError, pa.ArrowInvalid) as error:
            raise ConfigError(f"catalogue {name!r}: cannot read {file}: {error}") from None
        for column in STAR_COLUMNS:
            if column not in have:
                raise ConfigError(
                    f"catalogue {name!r}: {file} has no column {column!r}{nearest(column, have)}"
                )
        tables.append(pq.read_table(file, columns=list(STAR_COLUMNS), partitioning=None))
    stars = {c: np.concatenate([_floats(t[c]) for t in tables]) for c in STAR_COLUMNS}
    if not (np.isfinite(stars["ra"]).all() and (np.abs(stars["dec"]) <= 90.0).all()):
        raise ConfigError(f"catalogue {name!r}: ra and dec must be degrees, and none missing")
    order = np.lexsort([stars["dec"], stars["ra"]])
    if (np.diff(stars["ra"][order]) + np.diff(stars["dec"][order]) == 0).any():
        # stars at one position: all columns decide
        order = np.lexsort([stars[c] for c in reversed(STAR_COLUMNS)])
    # 0.0 for -0.0 and one kind of NaN: the hash is over numbers, not over bits.
    return {c: np.where(np.isnan(v), np.nan, v)[order] + 0.0 for c, v in stars.items()}


def _content_hash(stars: dict[str, Floats]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for column in STAR_COLUMNS:
        digest.update(np.ascontiguousarray(stars[column], dtype="<f8").tobytes())
    return digest.hexdigest()
