"""One small simulated archive for all tests of the simulator, and its packets."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pandas as pd
import pyarrow.parquet as pq
import pytest

from ampel_spark.simulate import Simulation, simulate
from ampel_spark.simulate.objects import Sky
from ampel_spark.simulate.survey import field_grid, first_nid, make_schedule
from ampel_spark.sky.dust import toy_map

#: Parameters of the archive.
SMALL: dict[str, Any] = {"alerts": 900, "nights": 30, "first_night": "2024-03-20", "seed": 5}

Packet = dict[str, Any]


def members(paths: list[Path]) -> Iterator[tuple[Path, str, bytes]]:
    """Archive, name and bytes of every member, by the standard library."""
    for path in paths:
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                yield path, member.name, file.read()


@pytest.fixture(scope="session")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    """The archive, made by one worker."""
    return simulate(tmp_path_factory.mktemp("simulated") / "archive", **SMALL)


@pytest.fixture(scope="session")
def packets(simulation: Simulation) -> list[Packet]:
    """All packets as fastavro reads them, in order of time."""
    found: list[Packet] = []
    for _, _, data in members(simulation.archives):
        found += fastavro.reader(io.BytesIO(data))  # type: ignore[arg-type]
    return found


@pytest.fixture(scope="session")
def candidates(packets: list[Packet], truth: pd.DataFrame) -> pd.DataFrame:
    """The scalars of all alerts, with the kind of their object."""
    table = pd.DataFrame([packet["candidate"] for packet in packets])
    table["name"] = [packet["objectId"] for packet in packets]
    return table.join(truth["kind"], on="name")


@pytest.fixture(scope="session")
def truth(simulation: Simulation) -> pd.DataFrame:
    """What is true, by name."""
    return pq.read_table(simulation.truth).to_pandas().set_index("name")


@pytest.fixture(scope="session")
def sky() -> Sky:
    """The sky of the archive."""
    grid, first, seed = field_grid(), first_nid(SMALL["first_night"]), SMALL["seed"]
    last = first + SMALL["nights"] - 1
    return Sky(grid, make_schedule(grid, first - 31, last, seed), first, last, toy_map(), seed)
