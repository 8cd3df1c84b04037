from __future__ import annotations

import numpy as np
import pytest
import torch

from resolute.noise import signs


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


@pytest.fixture(scope="session")
def seeds() -> torch.Tensor:
    return signs.fold(signs.key(0, "test"), torch.arange(2000))
