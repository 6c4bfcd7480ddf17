"""The recipe of forced photometry: baselines, scaled errors, reference fluxes, limits.

A service measures differences of images, and leaves to its users what makes light curves of them.
For ZTF's service that is in its document (Masci et al. 2023, arXiv:2305.16279), and is done so for
the Bright Transient Survey (https://github.com/BrightTransientSurvey/ztf_forced_phot):

- a *baseline*, the median flux of images without the transient, is subtracted: one for each field,
  CCD, quadrant and filter, because each has its own reference image;
- errors are multiplied by the square root of the median reduced chi-square of the PSF fits;
- the flux of the nearest source in the reference image may be added, for variable sources;
- a flux below `SNT` sigma has an upper limit of `SNU` sigma.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Baseline", "ForcedRecipe", "Reference", "apply_recipe", "peak_time"]

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

# The running median about a point [d], the points that it needs, and the S/N of a transient.
_WINDOW, _POINTS, _SEEN = 7.0, 3, 5.0


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Baseline(_Section):
    """Which images are without the transient: far before its maximum, else far after it."""

    before: float = Field(default=100.0, gt=0, description="days before maximum")
    after: float = Field(default=500.0, gt=0, description="days after maximum")
    until: float | None = Field(
        default=None, description="JD before which there is no transient, in place of both"
    )
    enough: int = Field(default=25, ge=1, description="images that make a good baseline")
    least: int = Field(default=10, ge=1, description="images below which there is no baseline")

    @model_validator(mode="after")
    def _is_ordered(self) -> Baseline:
        if self.least > self.enough:
            raise ValueError("'least' is above 'enough'")
        return self


class Reference(_Section):
    """The nearest source in the reference image, whose flux is added."""

    mag: str = Field(description="column of its magnitude")
    magerr: str = Field(description="column of its 1-sigma error [mag]")


class ForcedRecipe(_Section):
    """What is done to the fluxes of forced photometry."""

    by: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = Field(
        description="columns whose values together have a reference image of their own"
    )
    baseline: Baseline | None = Field(default=None, description="that is subtracted")
    chisq: str | None = Field(
        default=None, description="column whose median's square root multiplies the errors"
    )
    reference: Reference | None = Field(default=None, description="source whose flux is added")
    limit_below: float | None = Field(
        default=None, gt=0, description="S/N below which a flux has an upper limit (SNT)"
    )
    limit_sigma: float = Field(default=5.0, gt=0, description="sigma of these limits (SNU)")

    def columns(self) -> tuple[str, ...]:
        """Return the columns of the table that it needs."""
        more = () if self.reference is None else (self.reference.mag, self.reference.magerr)
        return (*self.by, *more, *(() if self.chisq is None else (self.chisq,)))


def apply_recipe(
    recipe: ForcedRecipe,
    rows: Rows,
    jd: Floats,
    number: Mapping[str, Floats],
    words: Callable[[str], Sequence[str]],
    values: Callable[[str], Floats],
) -> dict[str, dict[str, Any]]:
    """Apply a recipe to the usable rows of one object, and return what it did in each group.

    Parameters
    ----------
    recipe : ForcedRecipe
    rows : ndarray of int
        The object's usable rows.
    jd : ndarray of float
        Times of all rows of the table [d].
    number : mapping of str to ndarray
        ``flux``, ``fluxerr``, ``zp`` and ``limit`` of all rows, which are changed in place.
    words, values : callable
        Take a column's name and return it as text, and as numbers.

    Returns
    -------
    dict of str to dict
        By the values of the group (``426/4/3/ZTF_g``): ``baseline`` and ``baseline_points``, from
        images ``baseline_from`` before or after maximum or all of them, and ``error_scale``.
    """
    groups = _groups(recipe, rows, words)
    peak = peak_time(groups, jd, number)
    done: dict[str, dict[str, Any]] = {}
    for name, mine in groups.items():
        note: dict[str, Any] = {}
        if recipe.baseline is not None:
            flux, where = number["flux"], _without(recipe.baseline, jd[mine], peak)
            if where is not None:
                empty = mine[where[1]]
                level = float(np.median(flux[empty]))
                flux[mine] -= level
                note |= {"baseline": level, "baseline_points": len(empty),
                         "baseline_from": where[0]}  # fmt: skip
            else:
                note["baseline"] = None
        if recipe.chisq is not None:
            chisq = values(recipe.chisq)[mine]
            known = chisq[np.isfinite(chisq) & (chisq > 0)]
            scale = float(np.sqrt(np.median(known))) if len(known) else 1.0
            number["fluxerr"][mine] *= scale
            note["error_scale"] = scale
        done[name] = note
    if recipe.reference is not None:
        mag, magerr = values(recipe.reference.mag)[rows], values(recipe.reference.magerr)[rows]
        _add_reference(rows, number, mag, magerr)
    if recipe.limit_below is not None:
        faint = rows[number["flux"][rows] < recipe.limit_below * number["fluxerr"][rows]]
        number["limit"][rows] = np.nan
        number["limit"][faint] = number["zp"][faint] - 2.5 * np.log10(
            recipe.limit_sigma * number["fluxerr"][faint]
        )
    return done


def _groups(
    recipe: ForcedRecipe, rows: Rows, words: Callable[[str], Sequence[str]]
) -> dict[str, Rows]:
    columns = [words(name) for name in recipe.by]
    found: dict[str, list[int]] = {}
    for i in rows.tolist():
        found.setdefault("/".join(column[i] for column in columns), []).append(i)
    return {name: np.array(found[name], np.int64) for name in sorted(found)}


@np.errstate(over="ignore", invalid="ignore")  # an error near zero has an infinite S/N
def peak_time(groups: Mapping[str, Rows], jd: Floats, number: Mapping[str, Floats]) -> float | None:
    """Return when a transient was at its maximum: where the running median of S/N is highest.

    The median is over the points of a group within a week; so a single bad image is no maximum.

    Parameters
    ----------
    groups : mapping of str to ndarray of int
        Rows by group.
    jd : ndarray of float
        Times [d].
    number : mapping of str to ndarray
        ``flux`` and ``fluxerr``.

    Returns
    -------
    float or None
        A JD; None where no median is above 5.
    """
    best, peak = _SEEN, None
    for rows in groups.values():
        order = rows[np.argsort(jd[rows], kind="stable")]
        times = jd[order]
        level = number["flux"][order]
        # The baseline itself may be far from zero.
        snr = (level - np.median(level)) / number["fluxerr"][order]
        low = np.searchsorted(times, times - _WINDOW, "left")
        high = np.searchsorted(times, times + _WINDOW, "right")
        for i, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
            if b - a >= _POINTS and (median := float(np.median(snr[a:b]))) > best:
                best, peak = median, float(times[i])
    return peak


def _without(
    spec: Baseline, jd: Floats, peak: float | None
) -> tuple[str, npt.NDArray[np.bool_]] | None:
    """Return which images are without the transient, and how that is known; None if too few are."""
    if spec.until is not None:
        before, after, name = jd < spec.until, np.zeros(len(jd), bool), "before"
    elif peak is None:
        before, after, name = np.ones(len(jd), bool), np.zeros(len(jd), bool), "all"
    else:
        before, after, name = jd < peak - spec.before, jd > peak + spec.after, "before"
    n, late = int(before.sum()), int(after.sum())
    if n >= spec.enough or (n >= spec.least and late < spec.enough):
        return name, before
    return ("after", after) if late >= spec.least else None


def _add_reference(rows: Rows, number: Mapping[str, Floats], mag: Floats, magerr: Floats) -> None:
    """Add the flux of a source in the reference image, whose noise the difference has already."""
    with np.errstate(invalid="ignore"):
        flux = 10.0 ** (0.4 * (number["zp"][rows] - mag))
        error = flux * magerr * np.log(10.0) / 2.5
        own = number["fluxerr"][rows]
        rest = own**2 - error**2
        total = np.sqrt(np.where(rest > 0, rest, own**2 + error**2))
    known = np.isfinite(flux) & np.isfinite(error)
    number["flux"][rows] += np.where(known, flux, 0.0)
    number["fluxerr"][rows] = np.where(known, total, own)
