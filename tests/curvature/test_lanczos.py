from __future__ import annotations

import torch

from resolute.curvature.hessian import quadrature, tridiagonal


def test_each_row_has_a_matrix_of_its_own() -> None:
    a = torch.randn(4, 9, 9, dtype=torch.float64)
    a = a + a.mT
    nodes, weights = quadrature(
        *tridiagonal(lambda v: torch.einsum("rij,rj->ri", a, v), torch.randn(4, 9, dtype=torch.float64), 9, keep=True)
    )
    torch.testing.assert_close(nodes, torch.linalg.eigvalsh(a), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(weights.sum(1), torch.ones(4, dtype=torch.float64))


def test_one_step_is_the_quotient() -> None:
    a = torch.diag(torch.tensor([1.0, 3.0], dtype=torch.float64))
    nodes, weights = quadrature(*tridiagonal(lambda v: v @ a, torch.ones(1, 2, dtype=torch.float64), 1, keep=False))
    torch.testing.assert_close((nodes.item(), weights.item()), (2.0, 1.0))
