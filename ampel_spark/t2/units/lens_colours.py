"""Colours and observed magnitudes about the maximum, and the cuts of the search for lensed SNe Ia.

The cuts are those of AMPEL's unit ``T2GetLensSNParameters`` (Townsend et al. 2025,
arXiv:2405.18589), which `mode: ampel` repeats to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from astropy.cosmology import WMAP9
from pydantic import BaseModel, ConfigDict, Field, field_validator

from ampel_spark.lightcurve import DETECTION, FORCED, LightCurveBatch
from ampel_spark.t2.fits.points import FIELDS, replaced_by_forced
from ampel_spark.t2.unit import MISSING_DEPENDENCY, MISSING_INFO, Column, Unit

__all__ = ["EPOCHS", "ColourCut", "LensColours"]

Array = npt.NDArray[Any]

#: Days from t0, in the observer's frame, by the epoch's name.
EPOCHS = {"minus7": -7.0, "peak": 0.0, "plus7": 7.0}
#: AMPEL's zero point, and its 2.5 / ln 10.
_ZP, _MAG = 25.0, 2.5 * 0.434
_KINDS = {"detection": DETECTION, "forced": FORCED}


class ColourCut(BaseModel):
    """A colour, and what it must exceed near each epoch; none: that epoch is no cut."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str = Field(pattern=r"^[A-Za-z]\w*$")
    "What the colour's columns begin with, as `g_r`."

    blue: str
    "The band whose magnitude comes first."

    red: str
    "The band whose magnitude is subtracted."

    minus7: float | None = None
    "Threshold near t0 - 7 d, mag."

    peak: float | None = None
    "Threshold near t0, mag."

    plus7: float | None = None
    "Threshold near t0 + 7 d, mag."


#: AMPEL's nine thresholds.
_CUTS = (
    ColourCut(name="g_r", blue="ztfg", red="ztfr", minus7=-0.08, peak=0.12, plus7=0.33),
    ColourCut(name="g_i", blue="ztfg", red="ztfi", minus7=-0.08, peak=0.06, plus7=0.33),
    ColourCut(name="r_i", blue="ztfr", red="ztfi", minus7=-0.34, peak=-0.28, plus7=-0.23),
)


class LensColours(Unit):
    """Colours and magnitudes near t0 - 7, t0 and t0 + 7 days, and cuts for lensed SNe Ia.

    Near an epoch each band has the point that is nearest to it, within `unc` days; of two at one
    distance the earlier. A cut is null where what it needs is not known, and `pass_all_cuts` is
    true only where every cut is. `mode: ampel` has AMPEL's verdicts, which are never null.
    """

    mode: Literal["strict", "ampel"] = "strict"
    "`strict`: errors count, and what is missing passes nothing; `ampel`: AMPEL's unit, exactly."

    fit: str = "salt_fit"
    "T2 entry with t0 and the peak magnitude."

    redshift: str = "redshift_digest"
    "T2 entry with the redshift of the lens, and its distance."

    z_column: str = "ampel_z"
    "Its column with the redshift."

    distance_column: str = "ampel_dist"
    "Its column with the distance, arcsec."

    colours: tuple[ColourCut, ...] = _CUTS
    "Colours and their thresholds."

    unc: float = Field(default=3.0, gt=0)
    "Days from an epoch within which a point stands for it, the bounds included."

    significance: float = Field(default=2.0, ge=0)
    "Errors by which a colour must exceed its threshold; not used in mode ampel."

    max_absmag: float = -19.5
    "The fit's rest-frame B maximum must be brighter, mag."

    min_z: float = 0.1
    "The redshift must be larger."

    max_distance: float = 3.0
    "The distance of the redshift's source must be smaller, arcsec."

    points: tuple[Literal["detection", "forced"], ...] = ("detection", "forced")
    "Kinds to take; forced photometry stands in for a detection of the same time and band."

    libraries: ClassVar[Sequence[str]] = ("astropy", "numpy")

    @field_validator("colours")
    @classmethod
    def _have_own_names(cls, value: tuple[ColourCut, ...]) -> tuple[ColourCut, ...]:
        names = [cut.name.lower() for cut in value]
        if not names or len(set(names)) < len(names):
            raise ValueError("give at least one colour, each with a name of its own")
        return value

    def needs(self) -> Sequence[str]:
        """Return the entries of the fit and of the redshift."""
        return tuple(dict.fromkeys((self.fit, self.redshift)))

    def tied_columns(self) -> Mapping[str, Sequence[str]]:
        """Return the columns that are read of them."""
        found = {self.fit: ["t0", "z", "peak_mag_b", "peak_absmag_b"]}
        found.setdefault(self.redshift, []).extend([self.z_column, self.distance_column])
        return found

    def output_columns(self) -> Sequence[Column]:
        """Return a column and an error for each colour and each band near each epoch."""
        found = [
            Column("t0", "double", "d", "JD of the fit's maximum"),
            Column("z", "double", "", "redshift of the lens"),
            Column("distance", "double", "arcsec", "distance of that redshift's source"),
            Column("peak_absmag_b", "double", "mag", "rest-frame B maximum that is cut on"),
        ]
        for cut in self.colours:
            for epoch in EPOCHS:
                name, what = f"{cut.name}_colour_{epoch}", f"{cut.blue} - {cut.red} near {epoch}"
                found.append(Column(name, "double", "mag", what))
                found.append(Column(f"{name}_err", "double", "mag", "its error"))
        for band in self._bands():
            for epoch in EPOCHS:
                name = f"obsmag_{band}_{epoch}"
                found.append(Column(name, "double", "mag", f"{band} near {epoch}, AB"))
                found.append(Column(f"{name}_err", "double", "mag", "its error"))
        passes = "whether it passes: null where it cannot be said"
        return (
            *found,
            Column("missing", "array<string>", "", "colours that are not known, and why"),
            Column("colour_excess", "double", "", "largest (colour - threshold) / error"),
            Column("pass_colour_cuts", "boolean", "", f"any colour above its threshold; {passes}"),
            Column("pass_peak_cut", "boolean", "", f"peak magnitude; {passes}"),
            Column("pass_redshift_cut", "boolean", "", f"redshift; {passes}"),
            Column("pass_distance_cut", "boolean", "", f"distance; {passes}"),
            Column("pass_all_cuts", "boolean", "", f"all of these; {passes}"),
            Column("unknown", "string", "", "which cuts are null, and why"),
        )

    def point_fields(self) -> Sequence[str]:
        """Return what of each point is read."""
        return FIELDS

    def states_per_task(self) -> int:
        """Return how many light curves are worth a task of their own."""
        return 1000

    def process_batch(self, batch: LightCurveBatch) -> Mapping[str, Any]:
        """Take many light curves at once."""
        ampel = self.mode == "ampel"
        fitted, t0 = batch.tied(self.fit, "t0")
        digested, z = batch.tied(self.redshift, self.z_column)
        distance = batch.tied(self.redshift, self.distance_column)[1]
        absmag = self._absmag(batch)
        near = {
            (band, epoch): points
            for band, found in self._points(batch).items()
            for epoch, points in found.near(t0, self.unc, ampel).items()
        }
        out: dict[str, Any] = {"t0": t0, "z": z, "distance": distance, "peak_absmag_b": absmag}
        reasons, verdicts, excess = [], [], []
        for cut in self.colours:
            for epoch in EPOCHS:
                blue, red = near[cut.blue, epoch], near[cut.red, epoch]
                value, error = _colour(blue, red, ampel)
                name = f"{cut.name}_colour_{epoch}"
                out[name], out[f"{name}_err"] = value, error
                reasons.append((name, self._why(cut, epoch, blue, red)))
                threshold = getattr(cut, epoch)
                if threshold is not None:
                    margin = 0.0 if ampel else self.significance * error
                    with np.errstate(invalid="ignore", divide="ignore"):
                        verdicts.append((np.isfinite(value), value > threshold + margin))
                        excess.append((value - threshold) / error)
        for (band, epoch), points in near.items():
            mag, error = points.magnitude(ampel)
            out[f"obsmag_{band}_{epoch}"], out[f"obsmag_{band}_{epoch}_err"] = mag, error
        out |= self._cuts(verdicts, absmag, z, distance)
        out["colour_excess"] = _largest(excess, len(batch))
        out["missing"] = _texts(reasons, len(batch))
        status, message = np.zeros(len(batch), np.int32), np.full(len(batch), "", object)
        if not ampel:
            for lost, code, text in (
                (~fitted, MISSING_DEPENDENCY, f"no result of {self.fit}"),
                (~digested, MISSING_DEPENDENCY, f"no result of {self.redshift}"),
                (~np.isfinite(t0), MISSING_INFO, f"no t0 in {self.fit}"),
            ):
                lost = lost & (status == 0)
                status[lost], message[lost] = code, text
        out = {name: _masked(values, status != 0) for name, values in out.items()}
        return out | {"status": status, "message": pa.array(message, pa.string())}

    def _bands(self) -> list[str]:
        return list(dict.fromkeys(band for cut in self.colours for band in (cut.blue, cut.red)))

    def _absmag(self, batch: LightCurveBatch) -> Array:
        """Return the magnitudes that are cut on: the fit's, or those in sncosmo's cosmology."""
        if self.mode == "strict":
            return batch.tied(self.fit, "peak_absmag_b")[1]
        peak, z = batch.tied(self.fit, "peak_mag_b")[1], batch.tied(self.fit, "z")[1]
        absmag = np.full(len(batch), np.nan)
        good = np.isfinite(peak) & (z > 0)
        if good.any():
            # Many redshifts at a time give other last bits than one: both are rounded.
            absmag[good] = peak[good] - np.round(WMAP9.distmod(z[good]).value, 9)
        return absmag

    def _points(self, batch: LightCurveBatch) -> dict[str, _BandPoints]:
        """Return the usable points of each band, fluxes at zero point 25."""
        p, group = batch.points, batch.index()
        with np.errstate(invalid="ignore", over="ignore"):
            scale = 10.0 ** (-0.4 * (p["zp"] - _ZP))
            flux, error = p["flux"] * scale, p["fluxerr"] * scale
        usable = np.isfinite(flux) & np.isfinite(error) & np.isfinite(p["jd"])
        usable &= np.isin(p["kind"], [_KINDS[kind] for kind in self.points])
        code, words = batch.coded("band")
        if FORCED in p["kind"] and "forced" in self.points:
            usable &= ~replaced_by_forced(usable, p, group, code)
        system, systems = batch.coded("zpsys")
        usable &= (error > 0.0) & (systems == "ab")[system]
        flux = np.where(p["sign"] < 0, -np.abs(flux), flux)
        lower = np.array([str(word).lower() for word in words], object)
        found = {}
        for band in self._bands():
            at = np.flatnonzero(usable & (lower == band.lower())[code])
            found[band] = _BandPoints(len(batch), group[at], p["jd"][at], flux[at], error[at])
        return found

    def _why(
        self, cut: ColourCut, epoch: str, blue: _Nearest, red: _Nearest
    ) -> list[tuple[Array, str]]:
        """Return where a colour is not known, and why."""
        found = []
        for band, points in ((cut.blue, blue), (cut.red, red)):
            found.append((~points.any_in_band, f"no point in {band}"))
            within = f"no point in {band} within {self.unc:g} d of {epoch}"
            found.append((points.any_in_band & np.isnan(points.flux), within))
            found.append((points.flux <= 0.0, f"flux in {band} is not above 0"))
        return found

    def _cuts(
        self, verdicts: Sequence[tuple[Array, Array]], absmag: Array, z: Array, distance: Array
    ) -> dict[str, Any]:
        """Return the verdicts: nulls in mode strict, as AMPEL has them in mode ampel."""
        m, ampel = len(z), self.mode == "ampel"
        known = np.any([known for known, _ in verdicts], axis=0) if verdicts else np.zeros(m, bool)
        above = np.any([above for _, above in verdicts], axis=0) if verdicts else np.zeros(m, bool)
        with np.errstate(invalid="ignore"):
            cuts = {
                "colour": (known, above),
                "peak": (np.isfinite(absmag), absmag < self.max_absmag),
                "redshift": (np.isfinite(z), z > self.min_z),
                "distance": (np.isfinite(distance), distance < self.max_distance),
            }
        out: dict[str, Any] = {}
        for name, (has, passes) in cuts.items():
            full = "pass_colour_cuts" if name == "colour" else f"pass_{name}_cut"
            out[full] = pa.array(passes, pa.bool_(), mask=None if ampel else ~has)
        every = np.all([passes for _, passes in cuts.values()], axis=0)
        fails = np.any([has & ~passes for has, passes in cuts.values()], axis=0)
        sure = np.ones(m, bool) if ampel else every | fails
        out["pass_all_cuts"] = pa.array(every, pa.bool_(), mask=~sure)
        why = {
            "colour": "no colour is known",
            "peak": f"no peak magnitude in {self.fit}",
            "redshift": f"no redshift in {self.redshift}.{self.z_column}",
            "distance": f"no distance in {self.redshift}.{self.distance_column}",
        }
        words = np.full(m, "", object)
        for name, (has, _) in cuts.items():
            for i in np.flatnonzero(~has):
                words[i] += ("; " if words[i] else "") + why[name]
        out["unknown"] = pa.array(words, pa.string(), mask=words == "")
        return out


class _Nearest:
    """The point of each light curve that is nearest to an epoch; NaN where there is none."""

    def __init__(self, flux: Array, error: Array, any_in_band: Array) -> None:
        self.flux, self.error, self.any_in_band = flux, error, any_in_band

    def magnitude(self, ampel: bool) -> tuple[Array, Array]:
        """Return AB magnitudes and errors; mode ampel has an infinite one for a flux of 0."""
        flux = self.flux if ampel else np.where(self.flux > 0.0, self.flux, np.nan)
        with np.errstate(all="ignore"):
            return -2.5 * np.log10(flux) + _ZP, _MAG * (self.error / flux)


class _BandPoints:
    """Points of one band of M light curves."""

    def __init__(self, m: int, group: Array, time: Array, flux: Array, error: Array) -> None:
        self.m, self.group, self.time, self.flux, self.error = m, group, time, flux, error

    def near(self, t0: Array, unc: float, ampel: bool) -> dict[str, _Nearest]:
        """Return the nearest point of each light curve to each epoch, by the epoch's name."""
        there = np.bincount(self.group, minlength=self.m) > 0
        found = {}
        for name, days in EPOCHS.items():
            centre = t0 + days
            with np.errstate(invalid="ignore"):
                away = np.abs(self.time - centre[self.group])
            # Of points of one time AMPEL takes the first; otherwise the most precise counts.
            ties = () if ampel else (self.flux, self.error)
            order = np.lexsort((*ties, self.time, away, self.group))
            group, first = np.unique(self.group[order], return_index=True)
            at = order[first]
            with np.errstate(invalid="ignore"):
                inside = (centre[group] - unc <= self.time[at]) & (
                    self.time[at] <= centre[group] + unc
                )
            flux, error = np.full(self.m, np.nan), np.full(self.m, np.nan)
            flux[group[inside]] = self.flux[at[inside]]
            error[group[inside]] = self.error[at[inside]]
            found[name] = _Nearest(flux, error, there)
        return found


def _colour(blue: _Nearest, red: _Nearest, ampel: bool) -> tuple[Array, Array]:
    """Return colours and errors, as AMPEL computes them; NaN unless both fluxes are above 0."""
    with np.errstate(all="ignore"):
        value = -2.5 * np.log10(blue.flux / red.flux)
        one, two = _MAG * (blue.error / blue.flux), _MAG * (red.error / red.flux)
        error = np.sqrt(one**2 + two**2)
    if not ampel:
        bright = (blue.flux > 0.0) & (red.flux > 0.0)
        value, error = np.where(bright, value, np.nan), np.where(bright, error, np.nan)
    return value, error


def _masked(values: Any, absent: Array) -> Any:
    """Return a column with nulls where there is no result."""
    if isinstance(values, np.ndarray):
        return np.where(absent, np.nan, values)
    return pc.if_else(pa.array(~absent), values, None) if absent.any() else values


def _largest(values: Sequence[Array], m: int) -> Array:
    """Return the largest of some arrays at each place, NaN where none is known."""
    best = np.full(m, -np.inf)
    for value in values:
        best = np.fmax(best, np.where(np.isfinite(value), value, -np.inf))
    return np.where(best > -np.inf, best, np.nan)


def _texts(reasons: Sequence[tuple[str, Sequence[tuple[Array, str]]]], m: int) -> pa.Array:
    """Return what is missing, and why: one list of texts for each light curve."""
    texts: list[list[str]] = [[] for _ in range(m)]
    for name, causes in reasons:
        said: dict[int, list[str]] = {}
        for where, text in causes:
            for i in np.flatnonzero(where).tolist():
                said.setdefault(i, []).append(text)
        for i, words in said.items():
            texts[i].append(f"{name}: {', '.join(words)}")
    return pa.array(texts, pa.list_(pa.string()))
