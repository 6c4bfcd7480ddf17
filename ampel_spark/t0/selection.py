"""A channel and its filter: what T0 judges by, and the trace of what judged."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import sys
from dataclasses import dataclass
from typing import Literal, get_args

from ampel_spark.calibration.release import Release
from ampel_spark.errors import ConfigError, nearest
from ampel_spark.t0.cuts import MASKED, Cut
from ampel_spark.t0.filters import Filter
from ampel_spark.t0.gaia import StarCatalog

__all__ = ["ChannelFilter", "History", "OnStockMatch", "Photometry", "cuts_off", "trace"]

OnStockMatch = Literal["none", "bypass", "overrule", "silent_overrule"]
History = Literal["packet", "archive"]
Photometry = Literal["issued", "calibrated"]

# The modules whose code decides; a trace is over their text.
_CODE = ("conditions", "cuts", "filters", "galactic", "history", "judge", "quantities", "selection")
_EXPRESSIONS = tuple(
    f"ampel_spark.expressions.{name}"
    for name in ("expression", "kinds", "operations", "sql", "syntax", "values")
)

_CALIBRATION = tuple(
    f"ampel_spark.calibration.{name}" for name in ("alerts", "apply", "cells", "release", "tables")
)


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
        """Return the cuts in the order in which an alert meets them: a mask, the filter's."""
        return [*([MASKED] if self.calibrates else []), *self.filter.cuts()]


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

    It is over the filter's class and parameters with their defaults, the data rights, the two
    settings of the channel, the stars, the code of the filter and of this package, and what the
    release changes where it changes anything.

    Raises
    ------
    ConfigError
        If the code of the filter's class cannot be read.
    """
    content: dict[str, object] = {
        "filter": f"{type(alert_filter).__module__}.{type(alert_filter).__qualname__}",
        "parameters": alert_filter.model_dump(mode="python"),
        "access": None if access is None else sorted(access),
        "on_stock_match": on_stock_match,
        "history": history,
        "stars": None if gaia is None else gaia.content_hash,
        "code": _code_digest(type(alert_filter), gaia is not None),
    }
    if release is not None and release.rules:
        content["release"] = [release.content_hash, *map(_source, _CALIBRATION)]
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@functools.cache
def _code_digest(model: type[Filter], with_gaia: bool) -> str:
    package = __name__.rpartition(".")[0]
    names = {f"{package}.{name}" for name in (*_CODE, *(("gaia",) if with_gaia else ()))}
    names |= {*_EXPRESSIONS, *(("ampel_spark.sky.angles",) if with_gaia else ())}
    names |= {c.__module__ for c in model.__mro__ if issubclass(c, Filter)}
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(names):
        digest.update(f"{name}\n{_source(name)}\n".encode())
    return digest.hexdigest()


def _source(module: str) -> str:
    try:
        if module not in sys.modules:
            __import__(module)
        return inspect.getsource(sys.modules[module])
    except (OSError, TypeError, ImportError) as error:
        raise ConfigError(
            f"the code of {module} cannot be read ({error}), so no trace can name it: put the"
            " filter in a file"
        ) from None
