from __future__ import annotations

import pytest
import torch

from resolute.noise import signs


@pytest.fixture(scope="session")
def seeds() -> torch.Tensor:
    return signs.fold(signs.key(0, "test"), torch.arange(2000))
