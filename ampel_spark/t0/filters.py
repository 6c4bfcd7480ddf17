"""Filters of alerts: AMPEL's parameters, checked, and the cuts they stand for, in AMPEL's order.

`DecentFilter` and `SimpleDecentFilter` have the parameters, defaults and order of cuts of AMPEL's
units of the same names (Ampel-ZTF and Ampel-HU-astro; AMPEL: Nordin et al. 2019,
doi:10.1051/0004-6361/201935634), with three differences:

- ``max_nbad`` is applied (AMPEL requires the parameter and never reads it);
- ``min_archive_tspan <= span``, so that a history of no length passes at the default of 0;
- a number that is NaN counts as missing, as one that is null does: where AMPEL's comparison with
  NaN lets an alert through, the alert is rejected under ``missing keys``.

`Conditions` is a list of conditions on columns, for everything else; `All` takes every alert.

One's own filter is a class that derives from `Filter`, as these do::

    class Rising(Filter):
        "New alerts that are brighter than the object was before."

        min_rb: float = 0.5
        "Least real-bogus score."
        min_rise: float = 0.1
        "Least rise since the first detection of this band [mag/d]."

        def cuts(self):
            return [self.keep(f"rb >= {self.min_rb}", "min_rb"), self.keep("tspan > 0")]

        def judge(self, alert):
            d = alert.light_curve.detections
            d = d.where(d.band == d.band[-1])
            rise = (d.mag[0] - d.mag[-1]) / max(d.jd[-1] - d.jd[0], 1.0)
            return Verdict(rise >= self.min_rise, "min_rise", rise, self.min_rise)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ampel_spark.classes import Kind, build_model, load_class, with_paths
from ampel_spark.errors import AmpelSparkError, ConfigError, nearest
from ampel_spark.t0.conditions import parse_condition
from ampel_spark.t0.cuts import Cut
from ampel_spark.t0.quantities import OwnQuantities, column_types
from ampel_spark.t0.verdict import Alert, Verdict, verdict_of

__all__ = [
    "FILTERS",
    "All",
    "Conditions",
    "DecentFilter",
    "Filter",
    "SimpleDecentFilter",
    "find_filter",
    "make_filter",
    "ready",
]

#: What the candidate must have for the Decent filters, in the order in which AMPEL looks.
REQUIRED_KEYS = (
    "fwhm", "elong", "magdiff", "nbad", "distpsnr1", "sgscore1", "distpsnr2", "sgscore2",
    "distpsnr3", "sgscore3", "isdiffpos", "ra", "dec", "rb", "ssdistnr",
)  # fmt: skip


class Filter(BaseModel):
    """Base class of filters: annotated fields are parameters, `cuts` and `judge` are what they do.

    A string below a parameter is its description. A parameter of type `Path` is a file that the
    filter reads: a relative one starts from the job file's folder, and its content is part of the
    trace.

    Cuts are conditions on columns, and run in Spark, many alerts at once. `judge` is for what no
    condition can say: it is called for one alert after the other, and only for alerts that pass all
    cuts.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True
    )

    #: Whether `judge` reads the light curve. Without it T0 reads no datapoints.
    reads_history: ClassVar[bool] = True
    #: Distributions whose version is part of the trace.
    libraries: ClassVar[Sequence[str]] = ()

    _own: OwnQuantities | None = PrivateAttr(None)

    def model_post_init(self, context: Any) -> None:
        """Keep what the survey declares: ``own`` of the context that the model is validated in."""
        self._own = (context or {}).get("own")

    @property
    def own(self) -> OwnQuantities | None:
        """What the survey declares for its alerts, beside the columns of all."""
        return self._own

    @field_validator("*")
    @classmethod
    def _is_a_number(cls, value: Any) -> Any:
        if isinstance(value, float) and math.isnan(value):
            raise ValueError("NaN is no threshold")
        return value

    def cuts(self) -> list[Cut]:
        """Return the cuts that are on, in the order in which an alert meets them."""
        return []

    def judge(self, alert: Alert) -> Verdict:
        """Say whether an alert that passes all cuts is accepted.

        Parameters
        ----------
        alert : Alert
            With its history.

        Returns
        -------
        Verdict
            Or True or False. An exception rejects the alert, and the run reports it.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no judge")

    @property
    def judges(self) -> bool:
        """Whether there is a `judge`."""
        return type(self).judge is not Filter.judge

    def keep(self, condition: str, name: str | None = None) -> Cut:
        """Return the cut that keeps alerts for which a condition is true.

        Parameters
        ----------
        condition : str
            As a job's `Conditions` has it: ``rb >= 0.3``, ``abs(gal_lat) > 14 or missing``. An
            alert that lacks a quantity is rejected, unless the condition ends in ``or missing``.
        name : str, optional
            What `decisions` and the loss tables call the cut; default: the condition.

        Raises
        ------
        ConfigError
            If it cannot be read, or names no column.
        """
        cut = parse_condition(condition, self.own)
        return cut if name is None else replace(cut, name=name)

    def verdict(self, alert: Alert) -> Verdict:
        """Return what the filter makes of one alert, as a job does: for a notebook or a test.

        A cut that needs a catalogue of stars is passed over.

        Parameters
        ----------
        alert : Alert
            The alert; `Alert.of` makes one by hand.

        Returns
        -------
        Verdict
            Of the first cut that rejects it, else of `judge`.
        """
        for cut in self.cuts():
            if not cut.needs_stars and alert.row.evaluate(cut.rejects) is True:
                value, threshold = (alert.row.number(x) for x in (cut.value, cut.threshold))
                return Verdict(False, cut.name, value, threshold)
        return verdict_of(self.judge(alert)) if self.judges else Verdict(True)

    def groups(self) -> list[list[Cut]]:
        """Return, for each group of the filter, the cuts that keep an alert out of it."""
        return []

    def off(self) -> list[str]:
        """Return a line for each cut that the parameters switch off."""
        return []


def _parameter(unit: str, description: str) -> Any:
    return Field(description=f"{description} [{unit}]" if unit else description)


MinNdet = Annotated[int, _parameter("", "least number of detections in the history")]
MinTspan = Annotated[float, _parameter("d", "least time between first and last detection")]
MaxTspan = Annotated[float, _parameter("d", "longest time between first and last detection")]
MinArchiveTspan = Annotated[float, _parameter("d", "least jdendhist - jdstarthist; equal passes")]
MaxArchiveTspan = Annotated[
    float, _parameter("d", "jdendhist - jdstarthist must stay below; this value is rejected")
]
MinDrb = Annotated[
    float, _parameter("", "least deep-learning real-bogus score, where there is one; 0 is off")
]
MinRb = Annotated[float, _parameter("", "least real-bogus score")]
MaxFwhm = Annotated[float, _parameter("pixels", "largest full width at half maximum")]
MaxElong = Annotated[float, _parameter("", "largest elongation: major over minor axis")]
MaxMagdiff = Annotated[float, _parameter("mag", "largest abs(aperture magnitude - PSF magnitude)")]
MaxNbad = Annotated[int, _parameter("", "largest number of bad pixels in a 5 x 5 stamp")]
MinSsoDist = Annotated[float, _parameter("arcsec", "least distance to a known solar-system object")]
MinGalLat = Annotated[
    float, _parameter("deg", "least distance from the galactic plane; 0 and below is off")
]
Ps1VetoRad = Annotated[float, _parameter("arcsec", "a PS1 source nearer than this can be a star")]
Ps1VetoTh = Annotated[float, _parameter("", "a nearby PS1 source with a higher sgscore is a star")]
Ps1ConfusionRad = Annotated[
    float, _parameter("arcsec", "three PS1 sources nearer than this can be confused")
]
Ps1ConfusionTol = Annotated[
    float, _parameter("", "and are, where every abs(sgscore - 0.5) is below this")
]


class _Decent(Filter):
    """What both Decent filters share: the cuts on history, candidate and PS1 sources."""

    @model_validator(mode="after")
    def _has_room(self) -> _Decent:
        for low, high in (
            ("min_tspan", "max_tspan"),
            ("min_archive_tspan", "max_archive_tspan"),
            ("gaia_veto_gmag_min", "gaia_veto_gmag_max"),
        ):
            a, b = getattr(self, low, 0.0), getattr(self, high, 0.0)
            if a > b:
                raise ValueError(f"{low} ({a}) is above {high} ({b}): nothing can lie between")
        return self

    def cuts(self) -> list[Cut]:
        """Return the cuts in AMPEL's order."""
        p: Any = self
        cuts = [
            _below("min_ndet", "n_detections", p.min_ndet),
            _below("min_tspan", "tspan", p.min_tspan),
            _above("max_tspan", "tspan", p.max_tspan),
            Cut.where("missing keys", " or ".join(f"{key} is null" for key in REQUIRED_KEYS)),
            Cut.where("isdiffpos", "isdiffpos in [f, 0]", "sign", 0.0),
            _below("min_rb", "rb", p.min_rb),
            *([_below("min_drb", "drb", p.min_drb)] if p.min_drb > 0 else []),
            _above("max_fwhm", "fwhm", p.max_fwhm),
            _above("max_elong", "elong", p.max_elong),
            _above("max_magdiff", "abs(magdiff)", p.max_magdiff),
            _above("max_nbad", "nbad", p.max_nbad),
            _below("min_archive_tspan", "archive_tspan", p.min_archive_tspan),
            Cut.where("max_archive_tspan", f"archive_tspan >= {p.max_archive_tspan}"),
            Cut.where(
                "min_sso_dist", f"ssdistnr >= 0.0 and ssdistnr < {p.min_sso_dist}",
                "ssdistnr", p.min_sso_dist,
            ),
            *([_below("min_gal_lat", "abs(gal_lat)", p.min_gal_lat)] if p.min_gal_lat > 0 else []),
            Cut.where(
                "ps1_star", f"distpsnr1 < {p.ps1_sgveto_rad} and sgscore1 > {p.ps1_sgveto_th}",
                "distpsnr1", p.ps1_sgveto_rad,
            ),
            Cut.where(
                "ps1_confusion",
                f"ps1_distance_max < {p.ps1_confusion_rad}"
                f" and ps1_sg_offset_max < {p.ps1_confusion_sg_tol}",
                "ps1_distance_max", p.ps1_confusion_rad,
            ),
        ]  # fmt: skip
        return cuts

    def off(self) -> list[str]:
        """Return a line for each cut that the parameters switch off."""
        p: Any = self
        lines = []
        if p.min_drb <= 0:
            lines.append(f"min_drb is {p.min_drb:g}: no cut on the deep-learning real-bogus score")
        if p.min_gal_lat <= 0:
            lines.append(f"min_gal_lat is {p.min_gal_lat:g}: no cut on the galactic latitude")
        return lines


class SimpleDecentFilter(_Decent):
    """AMPEL's SimpleDecentFilter: history, image quality, solar system, galactic plane, PS1."""

    min_ndet: MinNdet = 2
    min_tspan: MinTspan = 0.02
    max_tspan: MaxTspan = 25.0
    min_archive_tspan: MinArchiveTspan = 0.0
    max_archive_tspan: MaxArchiveTspan = 1e5
    min_drb: MinDrb = 0.0
    min_rb: MinRb = 0.3
    max_fwhm: MaxFwhm = 5.0
    max_elong: MaxElong = 1.4
    max_magdiff: MaxMagdiff = 0.4
    max_nbad: MaxNbad = 0
    min_sso_dist: MinSsoDist = 20.0
    min_gal_lat: MinGalLat = 0.0
    ps1_sgveto_rad: Ps1VetoRad = 2.0
    ps1_sgveto_th: Ps1VetoTh = 0.8
    ps1_confusion_rad: Ps1ConfusionRad = 1.0
    ps1_confusion_sg_tol: Ps1ConfusionTol = 0.5


class DecentFilter(_Decent):
    """AMPEL's DecentFilter: as `SimpleDecentFilter`, and no star in Gaia at the place."""

    min_ndet: MinNdet
    min_tspan: MinTspan
    max_tspan: MaxTspan
    min_archive_tspan: MinArchiveTspan = 0.0
    max_archive_tspan: MaxArchiveTspan = 1e5
    min_drb: MinDrb = 0.0
    min_rb: MinRb
    max_fwhm: MaxFwhm
    max_elong: MaxElong
    max_magdiff: MaxMagdiff
    max_nbad: MaxNbad
    min_sso_dist: MinSsoDist
    min_gal_lat: MinGalLat
    ps1_sgveto_rad: Ps1VetoRad
    ps1_sgveto_th: Ps1VetoTh
    ps1_confusion_rad: Ps1ConfusionRad
    ps1_confusion_sg_tol: Ps1ConfusionTol
    gaia_rs: float = _parameter("arcsec", "search radius for Gaia stars; 0 and below is off")
    gaia_pm_signif: float = _parameter("sigma", "a star moves: proper motion above this")
    gaia_plx_signif: float = _parameter("sigma", "a star has a parallax above this")
    gaia_veto_gmag_min: float = _parameter("mag", "brightest G of stars that count")
    gaia_veto_gmag_max: float = _parameter("mag", "faintest G of stars that count")
    gaia_excessnoise_sig_max: float = _parameter(
        "sigma", "stars with an astrometric excess noise of this significance do not count"
    )

    def cuts(self) -> list[Cut]:
        """Return the cuts in AMPEL's order, the Gaia veto last."""
        cuts = super().cuts()
        if self.gaia_rs > 0:
            near = "gaia_distance is not null"
            cuts.append(Cut.where("gaia_star", near, "gaia_distance", "gaia_allowed"))
        return cuts

    def off(self) -> list[str]:
        """Return a line for each cut that the parameters switch off."""
        off = [f"gaia_rs is {self.gaia_rs:g}: no veto by Gaia stars"] if self.gaia_rs <= 0 else []
        return super().off() + off


class All(Filter):
    """Takes every alert: for photometry tables, and whatever was chosen before."""

    def cuts(self) -> list[Cut]:
        """Return no cut."""
        return []


def _readable(text: str, info: ValidationInfo) -> str:
    try:
        parse_condition(text, (info.context or {}).get("own"))
    except ConfigError as error:
        # the error that is made of it names the value
        raise ValueError(str(error).removeprefix(f"condition {text!r}").lstrip(": ")) from None
    return text


# Each is checked where it stands, so that all that are wrong are named.
_Condition = Annotated[str, AfterValidator(_readable)]


class Conditions(Filter):
    """A list of conditions on the columns of the alerts table, which all must hold.

    As ``rb >= 0.3``, ``abs(gal_lat) > 14``, ``isdiffpos in [t, 1]`` or ``magpsf < 19 or rb > 0.9``;
    see `ampel_spark.t0.conditions`. A condition on a missing number is not met, unless it ends in
    ``or missing``.
    """

    conditions: tuple[_Condition, ...] = Field(
        min_length=1, description="conditions that an alert must meet, in order"
    )
    by_group: tuple[tuple[_Condition, ...], ...] = Field(
        default=(),
        description="lists of conditions: an accepted alert gets the number, from 1, of the first"
        " list that it meets",
    )

    def cuts(self) -> list[Cut]:
        """Return one cut for each condition, under the condition's own text."""
        return [parse_condition(text, self.own) for text in self.conditions]

    def groups(self) -> list[list[Cut]]:
        """Return the cuts of each list of `by_group`."""
        return [[parse_condition(text, self.own) for text in texts] for texts in self.by_group]


#: The filters that a job can name.
FILTERS: dict[str, type[Filter]] = {
    c.__name__: c for c in (DecentFilter, SimpleDecentFilter, Conditions, All)
}


def make_filter(
    name: str,
    config: Mapping[str, Any] | None = None,
    folder: Path = Path(),
    own: OwnQuantities | None = None,
) -> Filter:
    """Build a filter from a job's ``filter`` and ``config``.

    Parameters
    ----------
    name : str
        One of `FILTERS`, ``module:Class`` or ``path/file.py:Class``.
    config : mapping, optional
        The parameters that differ from their defaults.
    folder : Path, optional
        Folder of the job file, from which a relative path starts.
    own : OwnQuantities, optional
        What the survey declares for its alerts.

    Raises
    ------
    ConfigError
        If there is no such filter, or parameters are unknown, missing or wrong: all at once.
    """
    model = find_filter(name, folder)
    return ready(build_model(model, config, f"filter {name!r}", {"own": own}), name, folder)


def find_filter(name: str, folder: Path = Path()) -> type[Filter]:
    """Return the class of a filter.

    Parameters
    ----------
    name : str
        One of `FILTERS`, ``module:Class`` or ``path/file.py:Class``.
    folder : Path, optional
        Folder of the job file, from which a relative path starts.

    Raises
    ------
    ConfigError
        If there is no such filter, or it defines neither `Filter.cuts` nor `Filter.judge`.
    """
    known = {key: f"{cls.__module__}:{cls.__qualname__}" for key, cls in FILTERS.items()}
    cls = load_class(Kind("filter", Filter, known, ConfigError), name, folder)
    if cls.cuts is Filter.cuts and cls.judge is Filter.judge:
        raise ConfigError(f"filter {name!r} defines neither cuts nor judge")
    return cls


def ready(alert_filter: Filter, name: str, folder: Path) -> Filter:
    """Return a filter with the relative paths in its parameters taken from a folder, checked.

    Parameters
    ----------
    alert_filter : Filter
        The filter.
    name : str
        How errors name it.
    folder : Path
        Folder of the job file.

    Raises
    ------
    ConfigError
        If its cuts cannot be made, are no cuts, share a name, or read what no alert has.
    """
    made: Filter = with_paths(alert_filter, lambda path: (folder / path).absolute())
    if isinstance(made, tuple(FILTERS.values())):
        return made
    where = f"filter {name!r}"
    try:
        cuts: Any = made.cuts()
    except AmpelSparkError as error:
        raise ConfigError(f"{where}: {error}") from None
    except Exception as error:
        raise ConfigError(f"{where}: cuts() raises {type(error).__name__}: {error}") from error
    if not isinstance(cuts, list | tuple) or not all(isinstance(cut, Cut) for cut in cuts):
        raise ConfigError(
            f"{where}: cuts() returned {cuts!r}; return a list of self.keep(condition, name)"
        )
    names = [cut.name for cut in cuts]
    if twice := [cut for cut in dict.fromkeys(names) if names.count(cut) > 1]:
        raise ConfigError(f"{where} has two cuts {twice[0]!r}: give each its own name")
    known = {*column_types(), *(made.own.names() if made.own is not None else ())}
    for cut in cuts:
        for quantity in cut.quantities():
            if quantity not in known:
                hint = nearest(quantity, known)
                hint = hint if "mean" in hint else "; `ampel-spark columns` lists what there is"
                raise ConfigError(f"{where}: cut {cut.name!r}: no column {quantity!r}{hint}")
    return made


def _below(name: str, quantity: str, threshold: float) -> Cut:
    return Cut.where(name, f"{quantity} < {threshold}")


def _above(name: str, quantity: str, threshold: float) -> Cut:
    return Cut.where(name, f"{quantity} > {threshold}")
