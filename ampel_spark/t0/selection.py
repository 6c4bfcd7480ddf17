"""A channel and its filter: what T0 judges by, and the trace of what judged."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal, get_args

from ampel_spark.calibration.release import Release
from ampel_spark.errors import ConfigError, UnitError, nearest
from ampel_spark.t0.cuts import MASKED, Cut
from ampel_spark.t0.filters import Filter
from ampel_spark.t0.gaia import StarCatalog
from ampel_spark.trace import code_of, plain, trace_id_of, version_of

__all__ = ["ChannelFilter", "History", "OnStockMatch", "Photometry", "cuts_off", "trace"]

OnStockMatch = Literal["none", "bypass", "overrule", "silent_overrule"]
History = Literal["packet", "archive"]
Photometry = Literal["issued", "calibrated"]

# The declared column that says which alerts are of bodies of the solar system.
_SOLAR_SYSTEM = "solar_system"

# What runs the filters: its code is in their traces. The second asks those that judge in Python.
_JUDGE = f"{__name__.rpartition('.')[0]}.judge"
_ASKED = "ampel_spark.t1.pasts"


@dataclass(frozen=True)
class ChannelFilter:
    """A channel and its filter.

    Attributes
    ----------
    channel : str
        Name of the channel.
    filter : Filter
        What judges its alerts.
    access : frozenset of int or None
        Program ids that the channel may see; alerts with others are not there for it, and history
        with others is not counted. None sees everything.
    on_stock_match : str
        What becomes of an alert where an earlier alert of the object, in the order of
        (jd, alert_id), was accepted: ``none`` (judged as any other), ``bypass`` (accepted, the
        filter not asked), ``overrule`` (accepted, the cut that rejects it recorded),
        ``silent_overrule`` (accepted, nothing recorded).
    history : str
        ``packet``: the history that the alert itself carries. ``archive``: all that alerts up to
        this one had shown of the object.
    gaia : StarCatalog or None
        Stars for the filter's Gaia veto; without them the veto is off.
    release : Release, optional
        Calibration of the alerts' own photometry before they are judged; default none.
    """

    channel: str
    filter: Filter
    access: frozenset[int] | None = None
    on_stock_match: OnStockMatch = "none"
    history: History = "packet"
    gaia: StarCatalog | None = None
    release: Release | None = None

    def __post_init__(self) -> None:
        for key, allowed in (("on_stock_match", OnStockMatch), ("history", History)):
            value = getattr(self, key)
            if value not in get_args(allowed):
                known = nearest(str(value), get_args(allowed))
                raise ConfigError(f"channel {self.channel}: {key} is {value!r}{known}")
        if self.access is not None and not self.access:
            raise ConfigError(f"channel {self.channel} has access to nothing: name one, as ZTF_PUB")
        if self.gaia is not None and not any(cut.needs_stars for cut in self.filter.cuts()):
            raise ConfigError(
                f"channel {self.channel}: its filter, {type(self.filter).__name__}, has no Gaia"
                f" veto; leave out 'gaia: {self.gaia.name}'"
            )

    @functools.cached_property
    def trace_id(self) -> str:
        """The trace of everything here but the channel's name."""
        return trace(
            self.filter,
            access=self.access,
            on_stock_match=self.on_stock_match,
            history=self.history,
            gaia=self.gaia,
            release=self.release,
        )

    @property
    def calibrates(self) -> bool:
        """Whether the alerts' photometry is calibrated first."""
        return self.release is not None and bool(self.release.rules)

    def cuts(self) -> list[Cut]:
        """Return the cuts in the order in which an alert meets them.

        These are a mask, what keeps bodies of the solar system apart, and the filter's.
        """
        masks = [MASKED] if self.calibrates else []
        return [*masks, *_apart(self.filter), *self.filter.cuts()]


def _apart(alert_filter: Filter) -> list[Cut]:
    """Return the cut that keeps bodies of the solar system out of a channel.

    It is there where the survey's file declares which alerts are of such (a column
    ``solar_system``), and the filter says nothing of it by itself.
    """
    own = alert_filter.own
    if own is None or _SOLAR_SYSTEM not in own.types:
        return []
    name = own.canonical(_SOLAR_SYSTEM)
    cuts = [*alert_filter.cuts(), *(cut for group in alert_filter.groups() for cut in group)]
    if any(name in cut.quantities() for cut in cuts):
        return []
    return [Cut.where(_SOLAR_SYSTEM, name)]


def cuts_off(judged: ChannelFilter) -> list[str]:
    """Return lines for the plan: which cuts of a channel's filter are off, and why."""
    lines = judged.filter.off()
    if judged.gaia is None and any(cut.needs_stars for cut in judged.filter.cuts()):
        lines.append("no star catalogue is named (gaia:): no veto by Gaia stars")
    return [f"channel {judged.channel}: {line}" for line in lines]


def trace(
    alert_filter: Filter,
    *,
    access: frozenset[int] | None = None,
    on_stock_match: OnStockMatch = "none",
    history: History = "packet",
    gaia: StarCatalog | None = None,
    release: Release | None = None,
) -> str:
    """Return the hash of all that decides a judgement: 32 hexadecimal digits.

    It is over the filter's class, its parameters with their defaults and the cuts that these make,
    the data rights, the two settings of the selection, the stars, the release where it changes
    anything, the code that runs (`ampel_spark.trace`), and the versions of the filter's libraries.

    Raises
    ------
    ConfigError
        If the code of the filter's class cannot be read.
    """
    cls, calibrates = type(alert_filter), release is not None and bool(release.rules)
    content = {
        "class": cls.__qualname__,
        "parameters": plain(alert_filter, cls.__qualname__),
        "cuts": plain(
            [[*_apart(alert_filter), *alert_filter.cuts()], alert_filter.groups()], cls.__qualname__
        ),
        "access": None if access is None else sorted(access),
        "on_stock_match": on_stock_match,
        "history": history,
        "stars": None if gaia is None else gaia.content_hash,
        "release": release.content_hash if release is not None and calibrates else None,
        "code": _code(cls, gaia is not None, calibrates),
    }
    if alert_filter.libraries:
        name = cls.__qualname__
        content["libraries"] = {lib: version_of(lib, name) for lib in sorted(cls.libraries)}
    return trace_id_of(content)


def _code(cls: type[Filter], stars: bool, calibrates: bool) -> dict[str, str]:
    """Return the digests of the modules that decide what a filter does, by module."""
    judges = cls.judge is not Filter.judge
    reads = judges and cls.reads_history
    # What the alerts' columns are called, and of which type, decides the cuts and nothing else.
    unused = ["ampel_spark.lake"]
    unused += [] if calibrates else ["ampel_spark.archive"]
    unused += [] if calibrates or reads else ["ampel_spark.calibration"]
    unused += [] if stars else ["ampel_spark.t0.gaia"]
    unused += [] if judges else ["ampel_spark.t0.verdict"]
    try:
        runs = [_JUDGE, _ASKED] if reads else [_JUDGE]
        return code_of(cls, Filter, runs, unused)
    except UnitError as error:
        raise ConfigError(str(error)) from None
