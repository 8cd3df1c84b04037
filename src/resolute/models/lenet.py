"""LeNet (LeCun et al. 1998) as it is written today: a ReLU after each hidden layer, dropout before the classifier."""

from __future__ import annotations

from torch import Tensor, nn

from resolute.errors import InputError


class LeNet(nn.Module):
    """conv 20@5, ReLU, pool, conv 50@5, ReLU, pool, fc 500, ReLU, dropout, fc: 431,080 parameters at 28x28."""

    # Images below 16 pixels a side (digits: 8x8) get convolutions padded to the same size, so that something is left to
    # pool. ``caffe`` leaves out the ReLUs of the convolutions, as Caffe's lenet.prototxt does.

    def __init__(
        self, classes: int, shape: tuple[int, int, int] = (1, 28, 28), dropout: float = 0.5, caffe: bool = False
    ) -> None:
        super().__init__()
        channels, *sides = shape
        if min(sides) < 4:
            raise InputError(f"lenet got images of {sides[0]}x{sides[1]} pixels; it needs at least 4 a side.")
        padding = 0 if min(sides) >= 16 else 2
        height, width = (((side - 4 + 2 * padding) // 2 - 4 + 2 * padding) // 2 for side in sides)
        self.conv1 = nn.Conv2d(channels, 20, 5, padding=padding)
        self.relu1 = nn.Identity() if caffe else nn.ReLU()
        self.conv2 = nn.Conv2d(20, 50, 5, padding=padding)
        self.relu2 = nn.Identity() if caffe else nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(50 * height * width, 500)
        self.relu3 = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(500, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images."""
        x = self.pool(self.relu1(self.conv1(x)))
        x = self.pool(self.relu2(self.conv2(x)))
        x = self.relu3(self.fc1(x.flatten(1)))
        logits: Tensor = self.fc2(self.dropout(x))
        return logits
