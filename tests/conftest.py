"""What holds for every test: fixed seeds, one thread, and nothing written outside a temporary folder."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_configure(config: pytest.Config) -> None:
    """Keep the user's caches out of reach, also of doctests and subprocesses."""
    folder = tempfile.TemporaryDirectory(prefix="resolute-tests-")
    config.add_cleanup(folder.cleanup)
    os.environ["XDG_CACHE_HOME"] = folder.name
    os.environ["RESOLUTE_DATA"] = str(Path(folder.name, "data"))
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    if "PYTEST_XDIST_WORKER" not in os.environ:  # its workers inherit it: the compiler's headers are prepared once
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(folder.name, "inductor"))
    else:
        os.environ["OMP_NUM_THREADS"] = "1"
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Fix every generator, whatever ran before."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (libraries draw from it)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def compiler() -> Iterator[None]:
    """Forget what torch.compile has compiled, before and after."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture(scope="session")
def photographs() -> torch.Tensor:
    """Six crops of the two photographs that scikit-learn brings: bytes, 3x96x96."""
    from sklearn.datasets import load_sample_image

    crops = [
        load_sample_image(name)[top : top + 192, left : left + 192].astype(np.float64)
        for name in ("china.jpg", "flower.jpg")
        for top, left in ((20, 60), (150, 300), (200, 40))
    ]
    small = [crop.reshape(96, 2, 96, 2, 3).mean((1, 3)).round().astype(np.uint8) for crop in crops]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).contiguous()


@pytest.fixture(scope="session")
def small(photographs: torch.Tensor) -> torch.Tensor:
    """The same at the size of CIFAR."""
    return torch.nn.functional.avg_pool2d(photographs.float(), 3).round().to(torch.uint8)
