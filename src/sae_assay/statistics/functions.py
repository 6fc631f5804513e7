"""What DuckDB lacks, registered as vectorised functions and macros: quantiles, regression residuals, short formulas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from duckdb.func import FunctionNullHandling, PythonUDFType
from scipy import special

MACROS = """
CREATE MACRO above(ss, rounding) AS CASE WHEN ss > rounding THEN ss ELSE 0 END;
CREATE MACRO ratio(a, b) AS CASE WHEN b > 0 THEN a / b END;
CREATE MACRO mid_rank(lowest, ties) AS lowest + (ties - 1) / 2;
CREATE MACRO varies(x) AS max(x) > min(x);
CREATE MACRO exact_sd(x, unit) AS CASE WHEN count(x) > 1 THEN CASE WHEN varies(x) THEN stddev_samp(x ORDER BY unit) ELSE 0 END END;
CREATE MACRO rho_at_one(f, n) AS CASE WHEN f + n - 1 > 0 THEN (f - 1) / (f + n - 1) END;
CREATE MACRO rho_of_mean(f) AS CASE WHEN f > 0 THEN 1 - 1 / f END;
CREATE MACRO why_no_noise(n_tasks, n_saes, n_seeds) AS CASE
    WHEN n_saes = 0 THEN 'no SAE has a number'
    WHEN n_saes = 1 THEN 'one SAE: relative and common noise cannot be told apart'
    WHEN n_seeds = 0 THEN 'no evaluation seed is common to all SAEs'
    WHEN n_seeds = 1 THEN 'one evaluation seed'
    ELSE 'no task is ok for every SAE at every seed' END;
CREATE MACRO fisher_limit(r, side, se) AS CASE
    WHEN abs(r) < 1 THEN tanh(atanh(r) + side * se * normal_quantile(0.975)) END;
CREATE MACRO change_se(r_1, r_2, r_12, df) AS CASE WHEN df > 0 AND r_1 + r_2 + r_12 IS NOT NULL THEN sqrt(greatest(0, (
    (1 - r_1 ^ 2) ^ 2 + (1 - r_2 ^ 2) ^ 2
    - 2 * ((r_12 - r_1 * r_2 / 2) * (1 - r_1 ^ 2 - r_2 ^ 2 - r_12 ^ 2) + r_12 ^ 3)) / df)) END;
CREATE MACRO morgan_width(r, df, t) AS CASE WHEN df > 1 AND r IS NOT NULL THEN
    1 + 2 * greatest(1 - r ^ 2, 0) * t ^ 2 / (df - 1) END;
CREATE MACRO verdict(low, high, threshold) AS CASE
    WHEN low > threshold THEN 'PASS' WHEN high < threshold THEN 'FAIL' ELSE 'INCONCLUSIVE' END;
"""

Floats = np.ndarray[Any, np.dtype[np.float64]]


def t_quantile(p: Floats, df: Floats) -> Floats:
    """Quantile of Student's t; NaN where df <= 0."""
    return np.where(df > 0, special.stdtrit(np.where(df > 0, df, 1.0), p), np.nan)


def t_two_sided_p(t: Floats, df: Floats) -> Floats:
    """P(|T| >= |t|); NaN where df <= 0."""
    return np.where(df > 0, 2 * special.stdtr(np.where(df > 0, df, 1.0), -np.abs(t)), np.nan)


def t_noncentrality(power: Floats, critical: Floats, df: Floats) -> Floats:
    """The noncentrality at which a t test with this critical value has this power (the other tail neglected)."""
    usable = (df > 0) & np.isfinite(critical)
    found = special.nctdtrinc(np.where(usable, df, 1.0), 1 - power, np.where(usable, critical, 1.0))
    return np.where(usable, found, np.nan)


def f_quantile(p: Floats, df1: Floats, df2: Floats) -> Floats:
    """Quantile of F; NaN where a df <= 0."""
    usable = (df1 > 0) & (df2 > 0)
    return np.where(usable, special.fdtri(np.where(usable, df1, 1.0), np.where(usable, df2, 1.0), p), np.nan)


def chi2_quantile(p: Floats, df: Floats) -> Floats:
    """Quantile of chi-squared; NaN where df <= 0."""
    return np.where(df > 0, special.chdtri(np.where(df > 0, df, 1.0), 1 - p), np.nan)


def normal_quantile(p: Floats) -> Floats:
    """Quantile of the standard normal."""
    return np.asarray(special.ndtri(p))


def residuals(archs: Sequence[str], l0s: Sequence[float], values: Sequence[float]) -> list[float]:
    """Least-squares residuals of values after architecture and L0 fixed effects, in the values' order.

    Residuals that are only rounding (1e-12 of the values' spread) are 0.
    """
    design, y = _design(archs, l0s), np.asarray(values, dtype=np.float64)
    left = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    spread = float(np.linalg.norm(y - y.mean()))
    return [float(v) for v in (left if np.linalg.norm(left) > 1e-12 * max(spread, 1e-300) else np.zeros_like(left))]


def residual_rank(archs: Sequence[str], l0s: Sequence[float]) -> int:
    """Degrees of freedom that architecture and L0 fixed effects leave."""
    return len(archs) - int(np.linalg.matrix_rank(_design(archs, l0s)))


def cosine(a: Sequence[float] | None, b: Sequence[float] | None) -> float | None:
    """Correlation of two residual vectors (they have mean 0); None where one of them is missing or 0."""
    if a is None or b is None:
        return None
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    size = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(np.clip(x @ y / size, -1.0, 1.0)) if size > 0 else None


def _design(archs: Sequence[str], l0s: Sequence[float]) -> Floats:
    """Intercept and indicator columns: [cells, 1 + architectures + L0 values]."""
    by_arch = np.asarray(archs)[:, None] == np.unique(np.asarray(archs))[None, :]
    by_l0 = np.asarray(l0s)[:, None] == np.unique(np.asarray(l0s))[None, :]
    return np.hstack([np.ones((len(archs), 1)), by_arch, by_l0]).astype(np.float64)


def register(db: duckdb.DuckDBPyConnection) -> None:
    """Make every function and macro known to a connection. NULL in, or no finite result: NULL out."""
    for function, arguments in (
        (t_quantile, 2),
        (t_two_sided_p, 2),
        (t_noncentrality, 3),
        (f_quantile, 3),
        (chi2_quantile, 2),
        (normal_quantile, 1),
    ):
        types: Any = ["DOUBLE"] * arguments
        call = _vectorised(function)
        db.create_function(
            function.__name__,
            call,
            types,
            "DOUBLE",
            type=PythonUDFType.ARROW,
            null_handling=FunctionNullHandling.SPECIAL,
        )
    db.create_function("residuals", residuals, ["VARCHAR[]", "DOUBLE[]", "DOUBLE[]"], "DOUBLE[]")
    db.create_function("residual_rank", residual_rank, ["VARCHAR[]", "DOUBLE[]"], "BIGINT")
    db.create_function("cosine", cosine, ["DOUBLE[]", "DOUBLE[]"], "DOUBLE", null_handling=FunctionNullHandling.SPECIAL)
    db.execute(MACROS)


def _vectorised(function: Callable[..., Floats]) -> Callable[..., Any]:
    @wraps(function)  # DuckDB counts the arguments by signature
    def call(*columns: Any) -> Any:
        numbers = [np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64) for column in columns]
        with np.errstate(all="ignore"):
            values = np.asarray(function(*numbers), dtype=np.float64)
        return pa.array(values, mask=~np.isfinite(values))

    return call
