"""How a cost grows with a size: a power law fitted on logarithms, what it is instead where it is none, and how far to trust it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import curve_fit

Kind = Literal["power", "fixed", "bends", "flat", "unfit"]
LEAST_SPREAD = 1.25
"""Largest over smallest value below which a cost counts as flat, whatever its slope's interval."""
LEVEL = 0.05


@dataclass(frozen=True)
class Fit:
    """cost = constant + scale * size ** exponent.

    Attributes:
        kind: `power` (no constant); `fixed` (a fixed cost before the power); `bends` (slower than a power at the upper end,
            as where something fills up: the exponent is the whole range's, so that it bounds growth beyond); `flat` (no
            growth that could be told from none); `unfit` (fewer than four positive values).
        error: standard error of the exponent.
        low, high: its interval at 95 %.
        residual: standard deviation of log cost about the fit.
        freedom: degrees of freedom.
        covariance: of (log constant, log scale, exponent), or of the last two.
    """

    kind: Kind
    constant: float = 0.0
    scale: float = 0.0
    exponent: float = 0.0
    error: float = 0.0
    low: float = 0.0
    high: float = 0.0
    residual: float = 0.0
    freedom: int = 0
    covariance: NDArray[np.float64] | None = None

    def at(self, size: float) -> float:
        return self.constant + self.scale * size**self.exponent

    def log_error(self, size: float, base: float) -> float:
        """Standard error of log(cost(size) / cost(base)), from the parameters' covariance."""
        if self.covariance is None:
            return 0.0
        slope = _log_gradient(self, size) - _log_gradient(self, base)
        return float(np.sqrt(max(0.0, slope @ self.covariance @ slope)))


def fit(sizes: Sequence[float], costs: Sequence[float]) -> Fit:
    """The law that measured costs follow; every choice between laws is a test at 5 % or the limit `LEAST_SPREAD`."""
    x, y = np.asarray(sizes, float), np.asarray(costs, float)
    if len(x) < 4 or (y <= 0).any():
        return Fit("unfit")
    power = _power(x, y)
    if power.low <= 0 <= power.high or y.max() / y.min() < LEAST_SPREAD:
        level = float(np.exp(np.log(y).mean()))
        return Fit("flat", constant=level, error=power.error, low=power.low, high=power.high, residual=power.residual)
    curvature, chance = _curvature(x, y)
    if chance >= LEVEL:
        return power
    return replace(power, kind="bends") if curvature < 0 else _with_constant(x, y) or power


def extrapolated(
    value: float, base: dict[str, float], target: dict[str, float], fits: dict[str, Fit]
) -> tuple[float, float, float]:
    """A cost at the target's sizes and its 95 % interval: the base's value times each changed size's ratio under its fit.

    It assumes that sizes act apart, and that the law holds beyond what was measured.
    """
    changed = {name: size for name, size in target.items() if size != base[name]}
    log, variance, freedom = np.log(value), 0.0, [1000]
    for name, size in changed.items():
        law = fits[name]
        if law.kind in ("flat", "unfit"):
            continue
        log += np.log(law.at(size) / law.at(base[name]))
        variance += law.log_error(size, base[name]) ** 2 + law.residual**2
        freedom.append(law.freedom)
    half = stats.t.ppf(1 - LEVEL / 2, min(freedom)) * np.sqrt(variance)
    return tuple(float(np.exp(log + side * half)) for side in (0, -1, 1))  # type: ignore[return-value]


def _power(x: NDArray[Any], y: NDArray[Any]) -> Fit:
    design = np.stack([np.ones_like(x), np.log(x)], 1)
    (log_scale, exponent), covariance, residual, freedom = _least_squares(design, np.log(y))
    return _bounded("power", 0.0, np.exp(log_scale), exponent, covariance, residual, freedom)


def _curvature(x: NDArray[Any], y: NDArray[Any]) -> tuple[float, float]:
    """The square term of log cost in log size, and how probable one as large is under a power law."""
    logs = np.log(x) - np.log(x).mean()
    found, covariance, _, freedom = _least_squares(np.stack([np.ones_like(x), logs, logs**2], 1), np.log(y))
    if covariance[2, 2] <= 0:
        return float(found[2]), 0.0
    return float(found[2]), float(2 * stats.t.sf(abs(found[2]) / np.sqrt(covariance[2, 2]), freedom))


def _with_constant(x: NDArray[Any], y: NDArray[Any]) -> Fit | None:
    """constant + scale * size ** exponent, fitted on log cost; None where no such law is found."""

    def law(size: NDArray[Any], log_constant: float, log_scale: float, exponent: float) -> NDArray[Any]:
        return np.logaddexp(log_constant, log_scale + exponent * np.log(size))

    steepest = np.log(y[-1] / y[-2]) / np.log(x[-1] / x[-2]) if x[-1] != x[-2] else 1.0
    start = (np.log(y.min() / 2), np.log(y[-1]) - steepest * np.log(x[-1]), steepest)
    try:
        found, covariance = curve_fit(law, x, np.log(y), start, maxfev=20_000)
    except RuntimeError:
        return None
    if not np.isfinite(covariance).all():
        return None
    if found[2] <= 0:
        return None
    freedom = len(x) - 3
    residual = float(np.sqrt(((np.log(y) - law(x, *found)) ** 2).sum() / freedom))
    return _bounded("fixed", np.exp(found[0]), np.exp(found[1]), found[2], covariance, residual, freedom)


def _least_squares(design: NDArray[Any], target: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.float64], float, int]:
    """Coefficients, their covariance, the residual's standard deviation and the degrees of freedom."""
    found = np.linalg.lstsq(design, target, rcond=None)[0]
    freedom = len(target) - design.shape[1]
    variance = float(((target - design @ found) ** 2).sum() / freedom)
    return found, variance * np.linalg.inv(design.T @ design), float(np.sqrt(variance)), freedom


def _bounded(
    kind: Kind, constant: float, scale: float, exponent: float, covariance: Any, residual: float, freedom: int
) -> Fit:
    error = float(np.sqrt(covariance[-1, -1]))
    half = float(stats.t.ppf(1 - LEVEL / 2, freedom)) * error
    bounds = (float(exponent - half), float(exponent + half))
    return Fit(kind, float(constant), float(scale), float(exponent), error, *bounds, residual, freedom, covariance)


def _log_gradient(law: Fit, size: float) -> NDArray[np.float64]:
    """Gradient of log cost in (log constant, log scale, exponent), or in the last two."""
    grown = law.scale * size**law.exponent
    share = grown / (law.constant + grown)
    gradient = [1 - share, share, share * np.log(size)]
    return np.array(gradient if law.kind == "fixed" else gradient[1:])
