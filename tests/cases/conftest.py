"""The cases: small inputs that people of this field have, packed in one file."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the cases, unpacked; each has a README with its right answer."""
    folder = tmp_path_factory.mktemp("cases")
    with tarfile.open(Path(__file__).with_name("cases.tar.xz")) as packed:
        packed.extractall(folder, filter="data")
    return folder
