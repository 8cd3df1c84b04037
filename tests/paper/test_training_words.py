from __future__ import annotations

import pytest

from resolute.paper.page import training_words
from resolute.paper.rows import TRAINED


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            "5-r-w-resnet-cifar10",
            "`wrn-28-10-drop30`; 300 epochs of batch 128; SGD at 0.1, times 0.1 at epochs 150, 225; weight decay "
            "0.0005; shifts of 4, flips, erasing with probability 0.5; cross-entropy; R: eps 0.1 at hidden.",
        ),
        (
            "4-capsnet",
            "`capsnet`; 641 epochs of batch 128; Adam at 0.001, times 0.96 each 4.27 epochs, smoothly; weight decay 0; "
            "shifts of 2; margin loss.",
        ),
        (
            "4-s-resnet",
            "`resnet110-sd`; 50 epochs of batch 128; Nesterov SGD at 0.1, times 0.1 at epochs 30, 35; weight decay "
            "0.0001; no augmentation; cross-entropy; validation images held out.",
        ),
        (
            "2-nasnet-a",
            "`nasnet-a-large`; 312 epochs of batch 1,600; RMSProp at 1.5, times 0.97 each 2.4 epochs; weight decay "
            "5e-05; crops of 8 to 100 % and flips; average of the weights 0.9999; gradients clipped at 10; "
            "cross-entropy with label smoothing 0.1.",
        ),
    ],
)
def test_a_training_in_a_sentence(row: str, words: str) -> None:
    assert training_words(TRAINED[row].recipe, TRAINED[row].source.loss) == words
