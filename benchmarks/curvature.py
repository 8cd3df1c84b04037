"""Time the top eigenvalues of LeNet's Hessian beside curvlinops' operator under the same solver, in the same run.

Rounds alternate. Both sides run ARPACK to the same tolerance from the same vector; what differs is the product with a
vector. The eigenvalues are printed beside each other.

    python benchmarks/curvature.py --images 10000 --out results.json
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from pathlib import Path
from typing import Any

import clock
import numpy as np
import torch
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn

from resolute import models
from resolute.curvature.hessian import Hessian, cross_entropy, eigenvalues

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # it imports what uses torch.jit.script
    from curvlinops import HessianLinearOperator


def theirs(model: nn.Module, data: list[tuple[Tensor, Tensor]], k: int, tol: float) -> Any:
    parameters = [p for p in model.parameters() if p.requires_grad]
    operator = HessianLinearOperator(model, nn.CrossEntropyLoss(), parameters, data, check_deterministic=False)
    size = sum(p.numel() for p in parameters)
    start = torch.randn(1, size, generator=torch.Generator().manual_seed(0))[0].numpy()
    return eigsh(operator.to_scipy(), k, which="LA", tol=tol, v0=start, return_eigenvectors=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--batch-size", type=int, default=500)
    parser.add_argument("--top", type=int, default=5)
    parser.add_argument("--tol", type=float, default=1e-3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--products", action="store_true", help="Time single products only.")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = models.build("lenet", classes=10).eval()
    x, y = torch.rand(options.images, 1, 28, 28), torch.randint(0, 10, (options.images,))
    data = list(zip(x.split(options.batch_size), y.split(options.batch_size), strict=True))
    hessian = Hessian(model, cross_entropy, data)
    found: dict[str, Any] = {}
    parameters = [p for p in model.parameters() if p.requires_grad]
    operator = HessianLinearOperator(model, nn.CrossEntropyLoss(), parameters, data, check_deterministic=False)
    v = torch.randn(hessian.size)
    passes = {
        "product, resolute": lambda: hessian(v),
        "product, curvlinops": lambda: operator @ v,
        "4 products, resolute": lambda: hessian(v.expand(4, -1)),
        "4 products, curvlinops": lambda: operator @ v[:, None].expand(-1, 4),
    }
    if not options.products:
        passes = {
            "eigenvalues, resolute": lambda: found.update(
                resolute=eigenvalues(hessian, options.top, tol=options.tol).values.numpy()
            ),
            "eigenvalues, curvlinops": lambda: found.update(
                curvlinops=np.sort(theirs(model, data, options.top, options.tol))[::-1]
            ),
        }
    seconds = clock.alternate(passes, options.repeats, warm_up=int(options.products))
    names = list(passes)
    rows = [
        {
            "what": name,
            "images": options.images,
            "median_s": round(statistics.median(seconds[name]), 3),
            "to_curvlinops": round(clock.ratio(seconds, name, names[i | 1]), 3),
        }
        for i, name in enumerate(names)
    ]
    rows += [{"what": f"values, {name}", "values": [float(v) for v in values]} for name, values in found.items()]
    for row in rows:
        print(row)
    clock.write(options.out, rows)


if __name__ == "__main__":
    main()
