"""One alert as a filter in Python sees it, and what the filter says of it.

::

    alert = Alert.of(LightCurve.of(jd=[1.0, 3.0], mag=[19.0, 18.2], band="ztfr"), rb=0.9)
    Rising().verdict(alert)        # Verdict(accept=True, cut=None, value=None, threshold=None)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Protocol

from ampel_spark.errors import nearest
from ampel_spark.t0.quantities import HISTORY, AlertRow, OwnQuantities, column_types

if TYPE_CHECKING:
    from ampel_spark.lightcurve import LightCurve

__all__ = ["RAISED", "Alert", "Judge", "Verdict", "asked", "verdict_of"]


class Judge(Protocol):
    """What judges one alert: a filter."""

    def judge(self, alert: Alert) -> Verdict:
        """Say whether an alert is accepted."""


#: How the cut is called under which an alert stands that `judge` raises an exception for.
RAISED = "judge raised "


@dataclass(frozen=True)
class Verdict:
    """What a filter says of an alert.

    Attributes
    ----------
    accept : bool
        Whether the alert is accepted.
    cut : str or None
        What rejects it: the name that `decisions`, the loss tables and ``explain`` show.
    value, threshold : float or None
        What the alert has, and what it was compared with.
    """

    accept: bool
    cut: str | None = None
    value: float | None = None
    threshold: float | None = None


class Alert:
    """An alert with its history.

    Its quantities are attributes: the columns of the table ``alerts``, what the survey declares,
    ``tspan``, ``gal_lat`` and others that conditions name. A missing one is None. Names with a dot
    are items: ``alert["lsst.snr"]``.

    Parameters
    ----------
    values : mapping
        A row of the table ``alerts``; its history is what the channel may see.
    light_curve : LightCurve or None
        The object's points up to the alert, that the channel may see: of the alert's own packet,
        or with ``history: archive`` of all alerts up to it. It is None for a filter that does not
        read it (`Filter.reads_history`).
    own : OwnQuantities, optional
        What the survey declares for its alerts.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        light_curve: LightCurve | None = None,
        own: OwnQuantities | None = None,
    ) -> None:
        self.row = AlertRow(values, own)
        self.light_curve = light_curve
        self._known = {*column_types(), *(() if own is None else own.names())}
        self._own = own

    @classmethod
    def of(
        cls,
        light_curve: LightCurve | None = None,
        own: OwnQuantities | None = None,
        **values: Any,
    ) -> Alert:
        """Return an alert made by hand, for a notebook or a test.

        Parameters
        ----------
        light_curve : LightCurve, optional
            Its history, the alert's own detection included. The counts and times of the history
            (``n_detections, jd_first, jd_last, jd``) follow from its detections.
        own : OwnQuantities, optional
            What the survey declares for its alerts.
        **values : object
            Columns of the table ``alerts``.

        Examples
        --------
        >>> from ampel_spark import LightCurve
        >>> alert = Alert.of(LightCurve.of(jd=[1.0, 3.5], mag=18.0), rb=0.9)
        >>> alert.rb, alert.n_detections, alert.tspan, alert.drb
        (0.9, 2, 2.5, None)
        """
        if light_curve is not None and len(light_curve.detections):
            jd = light_curve.detections.jd
            counted = (len(jd), float(jd.min()), float(jd.max()))
            known = dict(zip(HISTORY, counted, strict=True)) | {"jd": counted[2]}
            values = known | values
        return cls(values, light_curve, own)

    def __getitem__(self, name: str) -> Any:
        if name not in self._known:
            raise KeyError(f"an alert has no {name!r}{nearest(name, self._known)}")
        return self.row.value(name if self._own is None else self._own.canonical(name))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(error.args[0]) from None


def asked(judge: Judge, alert: Alert) -> tuple[Verdict, Exception | None]:
    """Return what a filter's `judge` says of an alert, and the exception that it raised.

    An alert that it raises an exception for is rejected; the cut has the exception's name.
    """
    try:
        return verdict_of(judge.judge(alert)), None
    except Exception as error:  # somebody's own code: it costs its alert, and the run reports it
        return Verdict(False, f"{RAISED}{type(error).__name__}"), error


def verdict_of(said: Any) -> Verdict:
    """Return what `judge` returned as a verdict with plain numbers; True and False are verdicts.

    Raises
    ------
    TypeError
        If it is none.
    """
    if isinstance(said, Verdict):
        accept = bool(said.accept)
        cut = None if accept else str(said.cut or "judge")
        return Verdict(accept, cut, _number(said.value), _number(said.threshold))
    # a comparison of numpy's numbers is a bool of numpy's
    if isinstance(said, bool) or type(said).__name__ == "bool":
        return Verdict(bool(said), None if said else "judge")
    raise TypeError(f"judge returned {said!r}, which is no Verdict, nor True or False")


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, Real):
        raise TypeError(f"a verdict's value and threshold are numbers, not {value!r}")
    number = float(value)
    return None if math.isnan(number) else number
