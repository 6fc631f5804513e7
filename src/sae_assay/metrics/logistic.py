"""Many small logistic regressions: the optimum that scikit-learn's `LogisticRegression` approaches.

Minimises sum_i log(1 + exp(-s_i (w.x_i + b))) + |w|^2 / (2 C) per problem by Newton's method in float64. The intercept
is not penalised. scikit-learn stops at a gradient of 1e-4, here it is `TOLERANCE`: its default weights lie near these,
its tightly converged ones on them. Latents are mostly silent, so rows are kept sparse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sae_assay.metrics import newton

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

TOLERANCE = 1e-12


class NotConverged(ArithmeticError):
    """Newton's method met no optimum: the inputs are not finite, or far too large."""


def fit(x: Tensor, y: Tensor, counts: Tensor, C: Tensor, start: Tensor | None = None) -> Tensor:
    """Fits all problems.

    Args:
        x: [problems, rows, k].
        y: [problems, rows], 0 or 1.
        counts: bool [problems, rows]; rows that do not count are padding or held out.
        C: [problems], inverse strength of the penalty.
        start: [problems, k + 1] to begin from.

    Returns:
        [problems, k + 1] float64, the intercept last.

    Raises:
        NotConverged: a problem did not reach the optimum.
    """
    return Problems.of(x, y, counts).fit(C, start)


@dataclass(frozen=True)
class Problems:
    """Problems that are fitted at several C: their sparse rows are made once.

    Attributes:
        rows: what `newton.compress` returns.
        y: float64, of all problems' rows that count.
        k: columns.
    """

    rows: tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]
    y: NDArray[np.float64]
    k: int

    @classmethod
    def of(cls, x: Tensor, y: Tensor, counts: Tensor) -> Problems:
        """From what `fit` takes."""
        return cls(newton.compress(x.numpy(), counts.numpy()), y[counts].double().numpy(), x.shape[2])

    def fit(self, C: Tensor, start: Tensor | None = None) -> Tensor:
        """As the function `fit`."""
        theta = torch.zeros(len(C), self.k + 1, dtype=torch.float64) if start is None else start.clone()
        first, indptr, columns, values = self.rows
        ended = newton.solve(first, indptr, columns, values, self.y, C.double().numpy(), theta.numpy(), TOLERANCE)
        for how, what in (
            (newton.NOT_CONVERGED, f"did not converge in {newton.MAX_STEPS} Newton steps"),
            (newton.SINGULAR, "have a singular Hessian"),
        ):
            if failed := int((ended == how).sum()):
                raise NotConverged(f"{failed} of {len(C)} logistic regressions {what}")
        return theta


def logits(x: Tensor, theta: Tensor) -> Tensor:
    """[problems, rows] float64 from x [problems, rows, k] and theta [problems, k + 1]."""
    return torch.baddbmm(theta[:, None, -1:], x.double(), theta[:, :-1, None])[..., 0]
