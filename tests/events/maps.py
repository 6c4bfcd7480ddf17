"""Sky maps and notices of the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy_healpix import healpix_to_lonlat

NOTICE: dict[str, Any] = {
    "mission": "IceCube", "alert_type": "initial", "event_name": ["IceCube-230416A"],
    "trigger_time": "2023-04-16T16:54:14.27Z", "alert_datetime": "2023-04-16T16:55:00Z",
    "ra": 345.82, "dec": 9.01, "ra_dec_error": 0.5, "pipeline": "Gold Track",
    "p_astro": 0.34064, "far": 8.029e-8, "nu_energy": 121.0,
}  # fmt: skip


def gaussian(order: int, ra: float, dec: float, sigma: float, ring: bool = False) -> np.ndarray:
    """Return the pixels of a Gaussian on the sky, of sum 1."""
    name = "ring" if ring else "nested"
    lon, lat = healpix_to_lonlat(np.arange(12 << (2 * order)), 1 << order, order=name)
    d = np.radians(dec)
    cos = np.sin(lat.rad) * np.sin(d) + np.cos(lat.rad) * np.cos(d) * np.cos(
        lon.rad - np.radians(ra)
    )
    far = np.degrees(np.arccos(np.clip(cos, -1, 1)))
    found = np.exp(-0.5 * (far / sigma) ** 2)
    return found / found.sum()


def write_flat(path: Path, values: np.ndarray, **head: Any) -> Path:
    """Write a flat sky map; entries of its head that are None are left out."""
    unit = fits.BinTableHDU.from_columns([fits.Column("PROB", "D", array=values)])
    said = {"ORDERING": "NESTED", "NSIDE": int(np.sqrt(len(values) / 12)), "COORDSYS": "C",
            "OBJECT": "S1", "DATE-OBS": "2024-03-10T00:00:00"} | head  # fmt: skip
    unit.header.update({k: v for k, v in said.items() if v is not None})
    unit.writeto(path, overwrite=True)
    return path


def write_multi_order(path: Path, values: np.ndarray, scale: float = 1.0, **head: Any) -> Path:
    """Write a flat NESTED map as a multi-order one, with a distance of 120 ± 20 Mpc."""
    order = int(np.log2(len(values) / 12) / 2)
    number = np.arange(len(values)) + (4 << (2 * order))
    density = values / (4 * np.pi / len(values)) * scale
    n = len(values)
    columns = [
        fits.Column("UNIQ", "K", array=number), fits.Column("PROBDENSITY", "D", array=density),
        fits.Column("DISTMU", "D", array=np.full(n, 120.0)),
        fits.Column("DISTSIGMA", "D", array=np.full(n, 20.0)),
        fits.Column("DISTNORM", "D", array=np.full(n, 1e-4)),
    ]  # fmt: skip
    unit = fits.BinTableHDU.from_columns(columns)
    said = {"ORDERING": "NUNIQ", "COORDSYS": "C", "OBJECT": "S1", "DISTMEAN": 120.0,
            "DISTSTD": 20.0, "DATE-OBS": "2024-03-10T00:00:00"} | head  # fmt: skip
    unit.header.update({k: v for k, v in said.items() if v is not None})
    unit.writeto(path, overwrite=True)
    return path
