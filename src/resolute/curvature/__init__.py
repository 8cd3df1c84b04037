"""How a loss bends: Jacobians, Hessians and their spectra, by inputs and by parameters.

Everything is a pure function of (network, loss, batches). docs/theory.md says what Section 3 of the paper claims of
them, and which of it holds.
"""

from __future__ import annotations

from resolute.curvature.hessian import (
    Eigenpairs,
    Estimate,
    Hessian,
    Spectrum,
    cross_entropy,
    eigenvalues,
    loss_along,
    over_batches,
    over_subsets,
    spectrum,
    trace,
)
from resolute.curvature.inputs import InputHessians, input_hessians, jacobian_norms

__all__ = [
    "Eigenpairs",
    "Estimate",
    "Hessian",
    "InputHessians",
    "Spectrum",
    "cross_entropy",
    "eigenvalues",
    "input_hessians",
    "jacobian_norms",
    "loss_along",
    "over_batches",
    "over_subsets",
    "spectrum",
    "trace",
]
