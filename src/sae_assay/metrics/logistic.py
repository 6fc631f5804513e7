"""Many small logistic regressions at once: the optimum that scikit-learn's `LogisticRegression` approaches.

Minimises sum_i v_i log(1 + exp(-s_i (w.x_i + b))) + |w|^2 / (2 C) per problem by Newton's method: objective and gradient
in float64, curvature in float32, which costs half and only shapes the steps, until that fails or gets slow. The
intercept is not penalised. scikit-learn stops at a gradient of 1e-4, here it is `TOLERANCE`: its default weights lie
near these, its tightly converged ones on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 1e-9
MAX_STEPS = 100
ROUGH_STEPS = 25
MAX_HALVINGS = 30


class NotConverged(ArithmeticError):
    """Newton's method met no optimum: the inputs are not finite, or far too large."""


def fit(
    x: Tensor, y: Tensor, weight: Tensor, C: Tensor, start: Tensor | None = None, tolerance: float = TOLERANCE
) -> Tensor:
    """Fits all problems.

    Args:
        x: [problems, rows, k].
        y: [problems, rows], 0 or 1.
        weight: [problems, rows], 1 for rows that count and 0 for padding and held-out rows.
        C: [problems], inverse strength of the penalty.
        start: [problems, k + 1] to begin from.
        tolerance: largest entry of the gradient, per row, at which a problem is done.

    Returns:
        [problems, k + 1] float64, the intercept last.

    Raises:
        NotConverged: a problem did not reach the optimum.
    """
    return Problems.of(x, y, weight).fit(C, start, tolerance)


@dataclass(frozen=True)
class Problems:
    """Problems that are fitted at several C: their copies in both precisions are made once.

    Attributes:
        design: float64 [problems, rows, k + 1], the last column 1.
        rough: the same in float32.
        y, weight: float64 [problems, rows].
    """

    design: Tensor
    rough: Tensor
    y: Tensor
    weight: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor, weight: Tensor) -> Problems:
        """From what `fit` takes."""
        design = torch.cat([x.double(), x.new_ones(*x.shape[:2], 1, dtype=torch.float64)], 2)
        return cls(design, design.float(), y.double(), weight.double())

    def take(self, keep: Tensor) -> Problems:
        return Problems(self.design[keep], self.rough[keep], self.y[keep], self.weight[keep])

    def fit(self, C: Tensor, start: Tensor | None = None, tolerance: float = TOLERANCE) -> Tensor:
        """As the function `fit`."""
        problems, _, width = self.design.shape
        theta = torch.zeros(problems, width, dtype=torch.float64) if start is None else start.clone()
        # The intercept, last, carries no penalty.
        penalty = torch.cat([(1 / C.double())[:, None].expand(-1, width - 1), torch.zeros(problems, 1).double()], 1)
        newton, todo = _Newton(self, penalty, theta.clone()), torch.arange(problems)
        for done in range(MAX_STEPS):
            left = newton.unfinished(tolerance)
            if not left.any():
                theta[todo] = newton.theta
                return theta
            # Copying the design costs about as much as a step, so finished problems are dropped by the batch.
            if left.sum() < 0.7 * len(left):
                theta[todo[~left]] = newton.theta[~left]
                todo, newton = todo[left], newton.take(left)
                left = newton.unfinished(tolerance)
            newton.step(left, rough=done < ROUGH_STEPS)
        problem = f"{len(todo)} of {problems} logistic regressions did not converge in {MAX_STEPS} Newton steps"
        raise NotConverged(problem)


class _Newton:
    """Unfinished problems and where they stand: penalty and theta [p, k + 1]."""

    def __init__(self, problems: Problems, penalty: Tensor, theta: Tensor) -> None:
        self.problems, self.penalty, self.theta = problems, penalty, theta
        self.design, self.y, self.weight = problems.design, problems.y, problems.weight
        self.logits = torch.bmm(self.design, theta[..., None])[..., 0]
        self.objective = self._objective(theta, self.logits)

    def take(self, keep: Tensor) -> _Newton:
        return _Newton(self.problems.take(keep), self.penalty[keep], self.theta[keep])

    def unfinished(self, tolerance: float) -> Tensor:
        """[p] bool; also prepares the step."""
        self.probability = torch.sigmoid(self.logits)
        error = (self.probability - self.y) * self.weight
        self.gradient = torch.bmm(error[:, None], self.design)[:, 0] + self.penalty * self.theta
        # Relative to the number of rows, as scikit-learn measures it.
        return ~(self.gradient.abs().amax(1) <= tolerance * self.weight.sum(1))

    def step(self, move: Tensor, rough: bool) -> None:
        """One Newton step of the problems [p] that move, halved until the objective does not rise."""
        direction = self._direction(self.problems.rough if rough else self.design)
        change = torch.bmm(self.design, direction[..., None])[..., 0]
        scale = move.double()[:, None]
        for halving in range(MAX_HALVINGS + 1):
            theta, logits = self.theta - scale * direction, self.logits - scale * change
            after = self._objective(theta, logits)
            rises = ~(after <= self.objective + 1e-12 * self.objective.abs())
            if halving == MAX_HALVINGS or not rises.any():
                break
            scale[rises] *= 0.5
        self.theta, self.logits, self.objective = theta, logits, after

    def _direction(self, design: Tensor) -> Tensor:
        curvature = (self.probability * (1 - self.probability) * self.weight).to(design.dtype)
        hessian = torch.bmm((design * curvature[..., None]).transpose(1, 2), design).double()
        diagonal = hessian.diagonal(dim1=1, dim2=2)
        # Without a penalty the intercept's curvature vanishes where all probabilities saturate.
        diagonal += self.penalty + 1e-12 * (1 + diagonal)
        factor, info = torch.linalg.cholesky_ex(hessian)
        direction = torch.cholesky_solve(self.gradient[..., None], factor)[..., 0]
        if info.any() or not torch.isfinite(direction).all():
            if design is not self.design:
                return self._direction(self.design)
            raise NotConverged(f"{int((info > 0).sum())} of {len(info)} logistic regressions have a singular Hessian")
        return direction

    def _objective(self, theta: Tensor, logits: Tensor) -> Tensor:
        loss = F.binary_cross_entropy_with_logits(logits, self.y, weight=self.weight, reduction="none").sum(1)
        return loss + 0.5 * (self.penalty * theta * theta).sum(1)


def logits(x: Tensor, theta: Tensor) -> Tensor:
    """[problems, rows] float64 from x [problems, rows, k] and theta [problems, k + 1]."""
    return torch.baddbmm(theta[:, None, -1:], x.double(), theta[:, :-1, None])[..., 0]
