"""Whatever the order in which alerts arrive, a datapoint ends with the values of the rule."""

from __future__ import annotations

import random
from typing import Any

from ampel_spark.archive.committing.revisions import changes, once
from ampel_spark.archive.sightings import Sighting, history, revisions
from tests.archive.twin import differs

STEPS = (0.0, 0.0, 0.0004, 0.0008, 0.0012, -0.0006, 0.05)
NOTHING: dict[str, Any] = dict.fromkeys(("mag", "magerr", "limit_mag", "flux", "fluxerr", "zp"))
FIRST = {
    "detection": {"mag": 18.0, "magerr": 0.1, "limit_mag": 20.0},
    "upper_limit": {"limit_mag": 20.0},
    "forced": {"flux": 100.0, "fluxerr": 5.0, "zp": 26.0},
}


def sightings(draw: random.Random) -> list[Sighting]:
    """Return what some alerts showed of one datapoint, in their order."""
    kind = draw.choice(sorted(FIRST))
    values = dict(FIRST[kind])
    hashes: dict[str, int] = {}
    found = []
    for i in range(draw.randrange(1, 9)):
        name = draw.choice(sorted(values))
        values[name] += draw.choice(STEPS) * (100 if name.startswith("flux") else 1)
        shown = NOTHING | {"kind": kind, "sign": 1} | values
        if draw.random() < 0.1:  # a flux that is not usable, a limit that is none
            shown |= {"flux": None, "fluxerr": None, "zp": None, "limit_mag": None}
        shown["value_hash"] = hashes.setdefault(repr(shown), len(hashes))
        own = {"rb": i / 8} if draw.random() < 0.8 else None  # not every packet says it
        found.append(Sighting(float(i // 2), i, shown, own))
    return found


def expected(
    seen: list[Sighting], own: dict[int, dict[str, float] | None]
) -> tuple[list[Sighting], list[Sighting]]:
    """Return values as they changed, and revisions, by the rule; `own` is by hash of the values."""
    runs = [
        s._replace(own=own[s.values["value_hash"]]) for i, s in enumerate(seen)
        if i == 0 or s.values["value_hash"] != seen[i - 1].values["value_hash"]
    ]  # fmt: skip
    kept = runs[:1]
    for run in runs[1:]:
        if differs(dict(kept[-1].values), dict(run.values)):
            kept.append(run)
    return runs, kept


class Lake:
    """What is stored of one datapoint."""

    def __init__(self) -> None:
        self.stored: dict[int, Sighting] = {}
        self.several: list[Sighting] = []
        self.shown: list[tuple[float, int]] = []

    def take(self, new: list[Sighting]) -> None:
        """Add what new alerts show, as the ingest does."""
        known = [*self.stored.values(), *self.several]
        if len({s.values["value_hash"] for s in (*known, *new)}) == 1:
            self.stored[0] = min((*self.stored.values(), *new), key=lambda s: s[:2])
        else:
            self._resolve(new)
        self.shown += [s[:2] for s in new]

    def withdraw(self, alert_id: int) -> None:
        """Forget what an alert showed."""
        self._resolve([], frozenset({alert_id}))
        self.shown = [each for each in self.shown if each[1] != alert_id]

    def _resolve(self, new: list[Sighting], gone: frozenset[int] = frozenset()) -> None:
        # What older alerts than the new ones showed is in the stored values.
        since = min((s.jd for s in new), default=0.0)
        shown = [each for each in self.shown if each[0] >= since]
        runs = history([*self.stored.values(), *self.several], shown, new, gone)
        inserted, changed = changes(revisions(runs), self.stored)
        assert not set(inserted) & set(self.stored)
        assert set(changed) <= set(self.stored)
        for number, sighting in {**inserted, **changed}.items():
            if sighting is None:
                del self.stored[number]
            else:
                self.stored[number] = sighting
        self.several = list(once(runs)) if len(runs) > 1 else []


def test_any_order_of_arrival_gives_what_the_order_of_alerts_does() -> None:
    draw = random.Random(1)
    most = 0
    for _ in range(1000):
        seen = sightings(draw)
        own = {s.values["value_hash"]: s.own for s in reversed(seen)}
        first = {s.values["value_hash"]: s.alert_id for s in reversed(seen)}
        left = draw.sample(seen, len(seen))
        lake = Lake()
        while left:
            n = draw.randrange(1, len(left) + 1)
            lake.take(left[:n])
            left = left[n:]
        for _ in range(draw.randrange(0, len(seen))):
            runs, kept = expected(seen, own)
            assert lake.stored == dict(enumerate(kept))
            assert lake.several == (list(once(runs)) if len(runs) > 1 else [])
            most = max(most, len(kept))
            gone = seen.pop(draw.randrange(len(seen)))
            lake.withdraw(gone.alert_id)
            if first[gone.values["value_hash"]] == gone.alert_id:
                own[gone.values["value_hash"]] = None  # later alerts' is not known
    assert most >= 4
