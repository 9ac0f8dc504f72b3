"""What tests of several folders share."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator

import faiss
import pytest
from hypothesis import settings

# Test processes are told how wide their parent's terminal is, and consoles keep what they are told.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

# How long an example takes says more about the machine than about us.
settings.register_profile("trireme", deadline=None)
settings.load_profile("trireme")

# As in every role: threads of OpenMP that wait for each other cost others their processors.
faiss.omp_set_num_threads(1)


@pytest.fixture(scope="module")
def quiet_libraries() -> Iterator[None]:
    """Lets libraries that load and export models warn, where every warning else is an error."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning, UserWarning):
            warnings.simplefilter("ignore", category)
        yield
