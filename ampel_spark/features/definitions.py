"""Which features there are, what they mean, and which of them a model may see.

The set of AMPEL's rise and decline (Ampel-HU-astro, `T2TabulatorRiseDecline`), ten statistics for
each band (Malanchev et al. 2021, doi:10.1093/mnras/stab316), and shapes of our own. A value that
cannot be known is NaN.

A row is a flux (a detection, or a forced flux without a detection of the same image) or an upper
limit in one of the bands. Fluxes have zero point 25.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

__all__ = [
    "BAND_BITS",
    "COMMON",
    "PER_BAND",
    "PER_COLOUR",
    "STATISTICS",
    "Feature",
    "FeatureSet",
    "Options",
]

#: AMPEL's numbers of bands in sums of bits; other bands continue after them.
BAND_BITS = {
    "lsstu": 1, "lsstg": 2, "lsstr": 4, "lssti": 8, "lsstz": 16, "lssty": 32,
    "ztfg": 64, "ztfr": 128, "ztfi": 256,
}  # fmt: skip


@dataclass(frozen=True)
class Feature:
    """A feature.

    Attributes
    ----------
    name, type, unit, description : str
        As those of a column; the type is ``int``, ``boolean`` or ``double``.
    role : str
        ``input`` where a model may see it. ``date`` (an absolute time), ``count`` (how often a
        survey looks) and ``bands`` (which it has) may not: they say more of the survey than of the
        object.
    """

    name: str
    type: str
    unit: str
    description: str
    role: str = "input"


@dataclass(frozen=True)
class Options:
    """Limits of the definitions.

    Attributes
    ----------
    sigma_det : float
        A flux of more than so many errors, of either sign, is a detection.
    sigma_slope : float
        Slopes of more than so many errors, summed over bands, are a rise or a decline.
    t_cadence : float
        Time in which fluxes of two bands make a colour, and by which the range of peaks is wider
        than that of detections [d].
    max_gap : float
        A longer time without any row is a gap [d].
    """

    sigma_det: float = 5.0
    sigma_slope: float = 3.0
    t_cadence: float = 5.0
    max_gap: float = 30.0


#: Features of all bands together, in the order of the kernel.
COMMON = (
    Feature("ndet", "int", "", "detections in significant bands, of either sign", "count"),
    Feature("alldet", "int", "", "detections in any band, of either sign", "count"),
    Feature("nnegdet", "int", "", "negative ones among those in any band", "count"),
    Feature("frac_pos", "double", "", "share of positive ones among ndet"),
    Feature("jd_det", "double", "d", "JD of the first detection", "date"),
    Feature("jd_last", "double", "d", "JD of the last detection", "date"),
    Feature("t_lc", "double", "d", "first to last detection"),
    Feature("t_predetect", "double", "d", "last row of a significant band before the first "
            "detection, to it"),
    Feature("mag_det", "double", "mag", "magnitude of the first detection, if positive"),
    Feature("mag_last", "double", "mag", "magnitude of the last detection, if positive"),
    Feature("band_det_id", "int", "", "bit of the first detection's band", "bands"),
    Feature("band_last_id", "int", "", "bit of the last detection's band", "bands"),
    Feature("mag_min", "double", "mag", "magnitude of the largest flux"),
    Feature("bool_pure", "boolean", "", "no row without a detection, in significant bands, between "
            "the first and the last detection"),
    Feature("bool_rise", "boolean", "", "rise_slopesig, summed over bands, is above sigma_slope"),
    Feature("bool_fall", "boolean", "", "fall_slopesig, summed over bands, is below -sigma_slope"),
    Feature("bool_peaked", "boolean", "", "both, and a band has both slopes"),
    Feature("jd_peak", "double", "d", "median of jd_peak of bands with both slopes, if peaked",
            "date"),
    Feature("t_rise", "double", "d", "first detection to jd_peak"),
    Feature("t_fall", "double", "d", "jd_peak to the last detection"),
    Feature("bool_fastrise", "boolean", "", "t_rise is below t_cadence"),
    Feature("bool_fastfall", "boolean", "", "t_fall is below t_cadence"),
    Feature("bool_hasgaps", "boolean", "", "some time longer than max_gap is without any row"),
    Feature("det_bands", "int", "", "bits of bands about the first detection", "bands"),
    Feature("last_bands", "int", "", "bits of bands about the last detection", "bands"),
    Feature("peak_bands", "int", "", "bits of bands about jd_peak", "bands"),
)  # fmt: skip

#: Features of each band. Its rows are those within t_cadence of the range of detections.
PER_BAND = (
    Feature("jd_peak_{}", "double", "d", "JD of the largest flux", "date"),
    Feature("rise_slope_{}", "double", "1/d", "weighted slope of fluxes up to the peak"),
    Feature("rise_slopesig_{}", "double", "", "the same over its error"),
    Feature("fall_slope_{}", "double", "1/d", "weighted slope of fluxes from the peak on"),
    Feature("fall_slopesig_{}", "double", "", "the same over its error"),
    Feature("n_{}", "int", "", "fluxes", "count"),
    Feature("peak_mag_{}", "double", "mag", "magnitude of the largest flux"),
    Feature("peak_snr_{}", "double", "", "the largest flux over its error"),
    Feature("t_peak_{}", "double", "d", "first detection to the largest flux"),
    Feature("rise_rate_{}", "double", "1/d", "rise_slope over the largest flux"),
    Feature("fall_rate_{}", "double", "1/d", "fall_slope over the largest flux"),
    Feature("first_ratio_{}", "double", "", "the first flux over the largest"),
    Feature("last_ratio_{}", "double", "", "the last flux over the largest"),
    Feature("width_{}", "double", "d", "standard deviation of times, weighted by positive fluxes"),
    Feature("asymmetry_{}", "double", "", "skewness of times, weighted by positive fluxes"),
)

#: Features of each pair of bands. Fluxes are means weighted by 1/err**2.
PER_COLOUR = (
    Feature("{}_{}_det", "double", "mag", "colour about the first detection"),
    Feature("{}_{}_last", "double", "mag", "colour about the last detection"),
    Feature("{}_{}_peak", "double", "mag", "colour about jd_peak"),
    Feature("{}_{}_max", "double", "mag", "difference of the two peak_mag"),
)

#: Statistics of each band with four fluxes or more, at any time.
STATISTICS = (
    Feature("eta_{}flux", "double", "", "mean square of steps over the variance (von Neumann)"),
    Feature("maximum_slope_{}flux", "double", "1/d", "largest slope between two rows in turn"),
    Feature("periodogram_period_0_{}flux", "double", "d", "period of the periodogram's maximum"),
    Feature("periodogram_period_s_to_n_0_{}flux", "double", "", "height of that maximum, in "
            "standard deviations of the periodogram"),
    Feature("skew_{}flux", "double", "", "skewness"),
    Feature("standard_deviation_{}flux", "double", "", "standard deviation"),
    Feature("excess_variance_{}flux", "double", "", "variance beyond the errors, over mean**2"),
    Feature("linear_fit_slope_{}flux", "double", "1/d", "slope of a weighted line"),
    Feature("linear_fit_slope_sigma_{}flux", "double", "1/d", "its error"),
    Feature("linear_fit_reduced_chi2_{}flux", "double", "", "its reduced chi-square"),
    Feature("anderson_darling_normal_{}flux", "double", "", "Anderson-Darling test of a normal "
            "distribution"),
    Feature("kurtosis_{}flux", "double", "", "excess kurtosis"),
    Feature("stetson_k_{}flux", "double", "", "Stetson's K"),
)  # fmt: skip


@dataclass(frozen=True)
class FeatureSet:
    """The features for some bands.

    Attributes
    ----------
    bands : sequence of str
        Names of bands as points have them; rows of other bands are left out.
    colours : sequence of pairs of str
        Pairs of these bands; by default each band and the next.
    significant : sequence of str
        Bands whose detections count; by default all.
    statistics : bool
        Whether the statistics of each band are among them.

    Examples
    --------
    >>> made = FeatureSet(("ztfg", "ztfr"))
    >>> [f.name for f in made.features() if f.name.startswith("ztfg_ztfr")]
    ['ztfg_ztfr_det', 'ztfg_ztfr_last', 'ztfg_ztfr_peak', 'ztfg_ztfr_max']
    >>> [f.name for f in made.features() if f.role == "date"][:3]
    ['jd_det', 'jd_last', 'jd_peak']
    """

    bands: Sequence[str]
    colours: Sequence[tuple[str, str]] = field(default=())
    significant: Sequence[str] = field(default=())
    statistics: bool = True

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Return the pairs of bands that have colours."""
        return tuple(self.colours) or tuple(zip(self.bands, self.bands[1:], strict=False))

    def bits(self) -> list[int]:
        """Return the bit of each band."""
        free = iter(1 << i for i in range(max(BAND_BITS.values()).bit_length(), 62))
        return [BAND_BITS.get(band) or next(free) for band in self.bands]

    def features(self) -> list[Feature]:
        """Return all features, in the order of the kernel's columns."""
        return [*COMMON, *self._of_bands()]

    def _of_bands(self) -> Iterator[Feature]:
        for band in self.bands:
            yield from (_named(f, f"in {band}", band) for f in PER_BAND)
        for pair in self.pairs():
            yield from (_named(f, f"{pair[0]} - {pair[1]}", *pair) for f in PER_COLOUR)
        if self.statistics:
            for band in self.bands:
                yield from (_named(f, f"in {band}", f"{band}_") for f in STATISTICS)
            yield from (_named(f, "mean over bands", "") for f in STATISTICS)


def _named(feature: Feature, where: str, *words: str) -> Feature:
    description = f"{feature.description}, {where}"
    return Feature(
        feature.name.format(*words), feature.type, feature.unit, description, feature.role
    )
