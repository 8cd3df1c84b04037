from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from resolute.errors import InputError
from resolute.models.layers import shuffle
from resolute.models.shufflenet_v1 import ShuffleNetV1, Unit


@pytest.mark.parametrize(("channels", "groups"), [(6, 2), (12, 3), (240, 3), (5, 1), (4, 4)])
def test_shuffle_is_index_arithmetic(channels: int, groups: int) -> None:
    x = torch.randn(2, channels, 3, 4)
    out = shuffle(x, groups)
    each = channels // groups
    for group in range(groups):
        for k in range(each):
            assert torch.equal(out[:, k * groups + group], x[:, group * each + k])


@pytest.mark.parametrize(("stride", "first_groups"), [(1, 3), (2, 3), (2, 1)])
def test_a_unit_is_the_paper_s_written_out(stride: int, first_groups: int) -> None:
    before, after = 24, 24 if stride == 1 else 60
    unit = Unit(before, after, stride, first_groups).double()
    x = torch.randn(4, before, 6, 6, dtype=torch.float64)
    for _ in range(3):
        unit(x)
    unit.eval()
    w = unit.state_dict()

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        mean, var = (w[f"{name}.running_{part}"].view(-1, 1, 1) for part in ("mean", "var"))
        normed: torch.Tensor = (x - mean) / (var + 1e-5).sqrt()
        return normed

    inner = after // 4
    h = norm("norm1", F.conv2d(x, w["squeeze.weight"], groups=first_groups)).clamp(min=0)
    h = h[:, [group * (inner // 3) + k for k in range(inner // 3) for group in range(3)]]
    h = norm("norm2", F.conv2d(h, w["depthwise.weight"], stride=stride, padding=1, groups=inner))
    h = norm("norm3", F.conv2d(h, w["expand.weight"], groups=3))
    joined = x + h if stride == 1 else torch.cat([F.avg_pool2d(x, 3, 2, 1), h], 1)
    torch.testing.assert_close(unit(x), joined.clamp(min=0))


def test_single_width_has_the_published_multiply_adds() -> None:
    from resolute.paper.sizes import count_network

    with torch.device("meta"):
        assert count_network(ShuffleNetV1(1000, width=1), (3, 224, 224)).multiply_adds / 1e6 == pytest.approx(
            137, rel=0.01
        )


@pytest.mark.parametrize("width", [0.0, -1.0, 0.33])
def test_other_widths_are_refused(width: float) -> None:
    with pytest.raises(InputError, match=f"shufflenet-v1 got width {width}"):
        ShuffleNetV1(10, width=width)
