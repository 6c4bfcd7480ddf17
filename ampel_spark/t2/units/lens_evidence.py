"""How likely a light curve is that of a SN Ia behind the galaxy that a catalogue has there."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import AfterValidator, Field, field_validator

from ampel_spark.errors import ConfigError, nearest
from ampel_spark.lensing import LensFitter, LensOptions, LensResult
from ampel_spark.lensing.fitter import RATE
from ampel_spark.lightcurve import DETECTION, FORCED, LightCurve, LightCurveBatch
from ampel_spark.salt.photometry import LightCurves
from ampel_spark.t2.fits import models
from ampel_spark.t2.fits.points import FIELDS, Choice, FitPoints, choose, numbers
from ampel_spark.t2.fits.results import texts
from ampel_spark.t2.fits.targets import Dust, FitTargets, Redshift, targets_of, tied_columns
from ampel_spark.t2.unit import Column, Unit

__all__ = ["LensEvidence"]

Array = npt.NDArray[Any]

TOO_FEW_POINTS, NO_SIGNAL, OUT_OF_RANGE = 1, 2, 3

_KINDS = {"detection": DETECTION, "forced": FORCED}
#: Days about the brightest point that are fitted, observer's frame: what SALT covers at any z.
_WINDOW = (-25.0, 50.0)
#: Columns of the table that are fields of the result.
_FIELDS = (
    "ln_normal", "ln_lensed", "ln_other", "ln_bayes", "z_lensed", "z_lensed_err", "magnification",
    "z_free", "z_free_err", "chisq", "z_best", "x1", "c", "chisq_catalogue",
)  # fmt: skip


def _known_band(name: str) -> str:
    known = models.band_names()
    if name.lower() not in known:
        raise ValueError(f"no such band{nearest(name, known)}")
    return name.lower()


class LensEvidence(Unit):
    """Compare a normal SN Ia, a magnified one behind the catalogue's galaxy, and other transients.

    All hypotheses are marginalised over what they leave free, the redshift among it; `score` is the
    ln of the odds of a lensed supernova. Statuses beside 0: 1 too few points, 2 no signal, 3
    redshift outside of the range, -2006 no result of a tied unit, -2008 no redshift.
    """

    meanings: ClassVar[Mapping[int, str]] = {
        TOO_FEW_POINTS: "too few points",
        NO_SIGNAL: "no signal",
        OUT_OF_RANGE: "redshift outside of the range",
    }

    model: str = "salt3/2.0"
    "SALT model and version."

    redshift: Redshift
    "The catalogue's redshift, of the lens; with `sigma` or `sigma_column`, its error."

    least_sigma: float = Field(default=0.001, gt=0)
    "Error of a redshift that has none, and the smallest that is taken."

    photometric: float = Field(default=0.003, gt=0)
    "Redshifts with errors above this have outliers near, beside those of a wrong galaxy."

    near_outliers: float = Field(default=0.04, ge=0, lt=0.5)
    "Share of photometric redshifts that are off by 0.12 (1 + z)."

    far_outliers: float = Field(default=0.03, ge=0, lt=0.5)
    "Share of redshifts that are another galaxy's."

    dust: Dust | None = None
    "Milky-Way dust; none by default."

    bands: tuple[Annotated[str, AfterValidator(_known_band)], ...] = ("ztfg", "ztfr", "ztfi")
    "Bands to fit, where the data folder has their curves."

    points: tuple[Literal["detection", "forced"], ...] = ("detection", "forced")
    "Kinds to fit; forced photometry stands in for a detection of the same time and band."

    min_points: int = Field(default=5, ge=2)
    "Fewest points to fit."

    min_peak_snr: float = 5.0
    "At least one point must be above this."

    z_max: float = Field(default=1.1, ge=0.3, le=2.0)
    "Largest redshift of a source; that of a lens is at least 0.1 below."

    absmag: float = -19.25
    "Rest-frame B maximum of a normal SN Ia with x1 = c = 0 (Bessell, AB, h0 = 70), mag."

    scatter: float = Field(default=0.14, gt=0)
    "Its scatter, mag."

    error_fraction: float = Field(default=0.03, ge=0)
    "Fraction of the flux added to errors in quadrature."

    images: tuple[tuple[float, float], ...] = ()
    "Two images, as further forms of a lensed one: [days between them, the second's share]."

    rate: float = Field(default=RATE, gt=0, lt=1e5)
    "Lensed SNe Ia among 100,000 transients: the prior of `score`."

    share_normal: float = Field(default=0.7, gt=0, lt=1)
    "Share of normal SNe Ia among all others: the prior of `score`."

    libraries: ClassVar[Sequence[str]] = ("extinction", "numba", "numpy", "sncosmo")
    columns: ClassVar[Sequence[Column]] = (
        Column("score", "double", "", "ln of the odds of a lensed SN Ia, its prior included"),
        Column("expected", "double", "", "lensed SNe Ia among 100,000 transients, by that prior"),
        Column("ln_bayes", "double", "", "ln evidence of a magnified SN Ia less a normal one's"),
        Column("ln_normal", "double", "", "ln evidence of a normal SN Ia"),
        Column("ln_lensed", "double", "", "ln evidence of a magnified SN Ia behind the lens"),
        Column("ln_other", "double", "", "ln evidence of a core-collapse or superluminous one"),
        Column("z", "double", "", "redshift of the catalogue"),
        Column("z_err", "double", "", "its error"),
        Column("z_lensed", "double", "", "redshift of the source if it is lensed"),
        Column("z_lensed_err", "double", "", "its error"),
        Column("magnification", "double", "mag", "by how much it is then brighter than normal"),
        Column("z_free", "double", "", "redshift by shape and colour of the light curve alone"),
        Column("z_free_err", "double", "", "its error"),
        Column("chisq", "double", "", "chi square with priors at the best redshift"),
        Column("z_best", "double", "", "that redshift"),
        Column("x1", "double", "", "stretch there"),
        Column("c", "double", "mag", "colour there"),
        Column("chisq_catalogue", "double", "", "chi square with priors at the catalogue's z"),
        Column("n_points", "int", "", "points fitted"),
        Column("mwebv", "double", "mag", "Milky-Way E(B-V), scaled; null without dust"),
    )

    @field_validator("model")
    @classmethod
    def _is_salt(cls, name: str) -> str:
        if name not in models.MODELS:
            raise ValueError(f"no such SALT model{nearest(name, models.MODELS)}")
        return name

    @field_validator("images")
    @classmethod
    def _are_images(cls, value: tuple[tuple[float, float], ...]) -> Any:
        if any(not (delay > 0 and 0 < share < 1) for delay, share in value):
            raise ValueError("give [days above 0, share between 0 and 1]")
        return value

    def needs(self) -> Sequence[str]:
        """Return the entries that redshift and E(B-V) come from."""
        return tuple(self.tied_columns())

    def tied_columns(self) -> Mapping[str, Sequence[str]]:
        """Return the columns that redshift and E(B-V) come from."""
        return tied_columns(self.redshift, self.dust)

    def files(self) -> Sequence[Path]:
        """Return the files of the model and the curves of the bands."""
        if self.redshift.fit is not None or self.redshift.otherwise != "refuse":
            raise ConfigError("redshift: a lens needs the catalogue's: leave out fit and otherwise")
        bands = (models.bandpass(band)[1] for band in self.bands)
        curves = [file for file in bands if file is not None]
        return (*models.model_files(self.model), *curves)

    def point_fields(self) -> Sequence[str]:
        """Return what of each point the fit reads."""
        return FIELDS if self.redshift.catalog is None else (*FIELDS, "ra", "dec")

    def states_per_task(self) -> int:
        """Return how many light curves are worth a task of their own."""
        return 500

    def prepare(self) -> str | None:
        """Have the kernels compiled before many workers need them."""
        days = np.array([-5.0, 0.0, 5.0, 10.0, 15.0])
        curve = LightCurve.of(jd=days, flux=[5.0, 9.0, 8.0, 6.0, 4.0], fluxerr=1.0)
        targets = targets_of(LightCurveBatch.of([curve]), Redshift(value=0.1), Dust(ebv=0.0))
        points = FitPoints(
            np.array([0, 5]), np.zeros(5, int), days, np.zeros(5, int), curve.flux, curve.fluxerr,
            curve.zp, {},
        )  # fmt: skip
        self._fit(points, targets, np.array([0.1]), np.array([self.least_sigma]))
        return None

    def process_batch(self, batch: LightCurveBatch) -> Mapping[str, Any]:
        """Take many light curves at once."""
        targets = targets_of(batch, self.redshift, self.dust)
        status, message = targets.status.copy(), targets.message.copy()
        z = np.where(np.isnan(targets.z), targets.mean, targets.z)
        sigma = np.fmax(np.where(np.isnan(targets.sigma), 0.0, targets.sigma), self.least_sigma)
        far: Array = (status == 0) & ~(z < self.z_max - 0.1)
        for i in numbers(far):
            text = f"redshift {z[i]:g}: z_max is {self.z_max:g}, and a lens 0.1 nearer"
            status[i], message[i] = OUT_OF_RANGE, text
        points = self._choose(batch)
        self._refuse(points, status, message)
        points = points.where((status == 0)[points.group])
        result = self._fit(points, targets, z, sigma)
        for i in numbers((status == 0) & np.isnan(result.ln_bayes)):
            status[i], message[i] = NO_SIGNAL, "no time of maximum has a flux above 0"
        return self._columns(result, targets, z, sigma, status, message)

    def _choose(self, batch: LightCurveBatch) -> FitPoints:
        curves = {name: models.bandpass(name)[0] for name in self.bands}
        choice = Choice(
            kinds=[_KINDS[kind] for kind in self.points],
            bands=curves,
            # Where a band leaves the model its edge is continued, for all redshifts to be compared
            # on the same points.
            wave=(0.0, math.inf),
            centre=None,
            zero_points={},
            min_snr=None,
            error_floor=0.0,
            error_fraction=0.0,
        )
        nowhere = np.zeros(len(batch))
        points = choose(batch, choice, nowhere, nowhere)
        days = points.time - points.brightest(self.min_peak_snr)[points.group]
        with np.errstate(invalid="ignore"):
            inside = (days >= _WINDOW[0]) & (days <= _WINDOW[1])
        return points.where(inside | np.isnan(days))

    def _refuse(self, points: FitPoints, status: Array, message: Array) -> None:
        best = points.best(points.snr)
        for i in numbers(status == 0):
            notes = points.notes.get(i, ())
            if points.count[i] < self.min_points:
                text = f"{points.count[i]} points to fit, {self.min_points} needed"
                status[i], message[i] = TOO_FEW_POINTS, "; ".join((text, *notes))
            elif not best[i] > self.min_peak_snr:
                text = f"no point above S/N {self.min_peak_snr:g}: {best[i]:.1f} at best"
                status[i], message[i] = NO_SIGNAL, "; ".join((text, *notes))
            else:
                message[i] = "; ".join(notes)

    def _fit(self, points: FitPoints, targets: FitTargets, z: Array, sigma: Array) -> LensResult:
        curves = [models.bandpass(name)[0] for name in self.bands]
        number = np.cumsum([curve is not None for curve in curves]) - 1
        known = tuple(curve for curve in curves if curve is not None)
        if not known:
            raise ConfigError("bands: none of them has a curve in the data folder")
        options = LensOptions(
            absmag=self.absmag,
            scatter=self.scatter,
            error_fraction=self.error_fraction,
            images=self.images,
        )
        law = self.dust.law if self.dust else "F99"
        fitter = _fitter(models.source(self.model), known, law, self.z_max, options)
        return fitter.fit(
            LightCurves(
                points.offsets, points.time, points.flux, points.error,
                number[points.band].astype(np.int32), points.zp,
            ),
            z=z,
            sigma=sigma,
            near_outliers=np.where(sigma > self.photometric, self.near_outliers, 0.0),
            far_outliers=self.far_outliers,
            mwebv=np.where(np.isnan(targets.ebv), 0.0, targets.ebv),
        )  # fmt: skip

    def _columns(
        self,
        result: LensResult,
        targets: FitTargets,
        z: Array,
        sigma: Array,
        status: Array,
        message: Array,
    ) -> dict[str, Any]:
        absent = status != 0
        with np.errstate(invalid="ignore"):
            others = np.logaddexp(
                result.ln_normal + math.log(self.share_normal),
                result.ln_other + math.log1p(-self.share_normal),
            )
        out: dict[str, Any] = {name: getattr(result, name) for name in _FIELDS}
        out["score"] = result.ln_lensed + math.log(self.rate / (1e5 - self.rate)) - others
        out |= {"z": z, "z_err": sigma, "mwebv": targets.ebv}
        out["expected"] = np.full(len(z), self.rate)
        out = {name: np.where(absent, np.nan, values) for name, values in out.items()}
        out["n_points"] = pa.array(result.n_points.astype(np.int32), mask=absent)
        return out | {"status": status, "message": texts(message)}


@functools.lru_cache(maxsize=2)
def _fitter(
    source: Any, curves: tuple[Any, ...], law: str, z_max: float, options: LensOptions
) -> LensFitter:
    return LensFitter(source, curves, z_max=z_max, dust_law=law, options=options)
