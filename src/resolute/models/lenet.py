"""LeNet (LeCun et al. 1998) in its Caffe form (20-50-500), with dropout before the classifier."""

from __future__ import annotations

from torch import Tensor, nn

from resolute.errors import InputError


class LeNet(nn.Module):
    """conv 20@5, pool, conv 50@5, pool, fc 500, ReLU, dropout, fc: 431,080 parameters at 28x28 and 10 classes."""

    # The one activation is the ReLU after fc 500, as in Caffe's lenet.prototxt. Images below 16 pixels a side (digits:
    # 8x8) get convolutions padded to the same size, so that something is left to pool.

    def __init__(self, classes: int, shape: tuple[int, int, int] = (1, 28, 28), dropout: float = 0.5) -> None:
        super().__init__()
        channels, *sides = shape
        if min(sides) < 4:
            raise InputError(f"lenet got images of {sides[0]}x{sides[1]} pixels; it needs at least 4 a side.")
        padding = 0 if min(sides) >= 16 else 2
        height, width = (((side - 4 + 2 * padding) // 2 - 4 + 2 * padding) // 2 for side in sides)
        self.conv1 = nn.Conv2d(channels, 20, 5, padding=padding)
        self.conv2 = nn.Conv2d(20, 50, 5, padding=padding)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(50 * height * width, 500)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(500, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images."""
        x = self.pool(self.conv1(x))
        x = self.pool(self.conv2(x))
        x = self.relu(self.fc1(x.flatten(1)))
        logits: Tensor = self.fc2(self.dropout(x))
        return logits
