"""Newton's method for logistic regressions on sparse rows, one problem after the other in compiled loops.

exp and log1p are written out: loops over them become vector instructions, and give the same bits on every processor.
numpy's error model lets loops that divide become such too.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

MAX_STEPS = 100
MAX_HALVINGS = 30
SURE = 1.0
"""A Newton step that moves no logit by more lowers the objective, which is not computed then: along it the curvature grows
by no more than a factor e, so that the decrease is at least 3 - e times the squared Newton decrement (Bach 2010,
Self-concordant analysis for logistic regression)."""
DENSE = 0.2
"""Share of entries from which on BLAS multiplies rows faster than loops over the entries."""
CONVERGED, NOT_CONVERGED, SINGULAR = 0, 1, 2

_LOG2_E, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, 6.93147180369123816490e-01, 1.90821492927058770002e-10
_SHIFT = 1.5 * 2.0**52  # added to a number, it leaves the nearest integer in the last bits
_LOWEST = -708.0  # the exponential of less is no normal float64
_INVERSE_FACTORIALS = tuple(1 / math.factorial(n) for n in range(13, -1, -1))
_INVERSE_ODD = tuple(1 / (2 * n + 1) for n in range(16, -1, -1))


@njit(cache=True, error_model="numpy")
def compress(x, keep):  # type: ignore[no-untyped-def]
    """Rows of problems in compressed form.

    Args:
        x: [problems, rows, k].
        keep: bool [problems, rows], the rows that count.

    Returns:
        first int64 [problems + 1], each problem's first row; indptr int64 [rows that count + 1]; columns int32 and values
        float64 [entries that are not 0].
    """
    problems, rows, k = x.shape
    first = np.zeros(problems + 1, np.int64)
    entries = 0
    for p in range(problems):
        first[p + 1] = first[p]
        for i in range(rows):
            if keep[p, i]:
                first[p + 1] += 1
                for j in range(k):
                    entries += x[p, i, j] != 0
    indptr, columns, values = np.zeros(first[-1] + 1, np.int64), np.empty(entries, np.int32), np.empty(entries)
    row = at = 0
    for p in range(problems):
        for i in range(rows):
            if keep[p, i]:
                for j in range(k):
                    if x[p, i, j] != 0:
                        columns[at], values[at] = j, x[p, i, j]
                        at += 1
                row += 1
                indptr[row] = at
    return first, indptr, columns, values


@njit(cache=True, error_model="numpy")
def solve(first, indptr, columns, values, y, C, theta, tolerance):  # type: ignore[no-untyped-def]
    """Moves every problem's theta [problems, k + 1] (the intercept last) to the optimum; how each ended [problems].

    Args:
        first, indptr, columns, values: from `compress`.
        y: float64 [rows], 0 or 1.
        C: [problems], inverse strength of the penalty.
        tolerance: largest entry of the gradient, per row, at which a problem is done; more where values lie beyond
            1,000, as rounding grows with them.
    """
    ended = np.empty(len(C), np.int64)
    for p in range(len(C)):
        start, stop = first[p], first[p + 1]
        ended[p] = _one(indptr[start : stop + 1], columns, values, y[start:stop], 1 / C[p], theta[p], tolerance)
    return ended


@njit(cache=True, error_model="numpy")
def _one(indptr, columns, values, y, penalty, theta, tolerance):  # type: ignore[no-untyped-def]
    n, k = len(y), len(theta) - 1
    logits, moved, change, small, scratch = np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    error, curvature, rest, to = np.empty(n), np.empty(n), np.empty(n), np.empty(k + 1)
    rows = indptr, columns, values, _dense(indptr, columns, values, k)
    enough = tolerance * n * max(1.0, _largest(values[indptr[0] : indptr[-1]]) / 1000)
    _product(rows, theta, logits)
    exp_of_negative(logits, small, rest, scratch)
    objective = np.nan  # computed where a step needs it
    for step in range(MAX_STEPS + 1):
        for i in range(n):  # `small` is exp(-|logit|)
            share = 1 / (1 + small[i])
            error[i] = (1.0 if logits[i] >= 0 else small[i]) * share - y[i]
            curvature[i] = small[i] * share * share
        gradient = _gradient(rows, error, theta, penalty)
        if np.abs(gradient).max() <= enough:
            return CONVERGED
        if step == MAX_STEPS:
            break
        if not _descend(_hessian(rows, curvature, k, penalty), gradient):
            return SINGULAR
        _product(rows, gradient, change)
        if _largest(change) <= SURE:
            theta -= gradient
            logits -= change
            exp_of_negative(logits, small, rest, scratch)
            objective = np.nan
            continue
        if np.isnan(objective):
            objective = _loss(logits, y, small, rest, scratch) + _penalty(theta, penalty)
        scale = 1.0
        for halving in range(MAX_HALVINGS + 1):
            for i in range(n):
                moved[i] = logits[i] - scale * change[i]
            for j in range(k + 1):
                to[j] = theta[j] - scale * gradient[j]
            exp_of_negative(moved, small, rest, scratch)
            after = _loss(moved, y, small, rest, scratch) + _penalty(to, penalty)
            if halving == MAX_HALVINGS or after <= objective + 1e-12 * abs(objective):
                break
            scale *= 0.5
        theta[:] = to
        logits[:] = moved
        objective = after
    return NOT_CONVERGED


@njit(error_model="numpy")
def _largest(values):  # type: ignore[no-untyped-def]
    largest = 0.0
    for value in values:
        largest = max(largest, abs(value))
    return largest


@njit(error_model="numpy")
def _dense(indptr, columns, values, k):  # type: ignore[no-untyped-def]
    """Rows that are mostly active, the intercept's 1 last [n, k + 1]; else none."""
    n = len(indptr) - 1
    dense = np.zeros((n if indptr[-1] - indptr[0] > DENSE * n * k else 0, k + 1))
    for i in range(len(dense)):
        dense[i, k] = 1
        for at in range(indptr[i], indptr[i + 1]):
            dense[i, columns[at]] = values[at]
    return dense


@njit(error_model="numpy")
def _product(rows, theta, out):  # type: ignore[no-untyped-def]
    indptr, columns, values, dense = rows
    if len(dense):
        out[:] = np.dot(dense, theta)
        return
    intercept = theta[-1]
    for i in range(len(out)):
        total = intercept
        for at in range(indptr[i], indptr[i + 1]):
            total += values[at] * theta[columns[at]]
        out[i] = total


@njit(error_model="numpy")
def _gradient(rows, error, theta, penalty):  # type: ignore[no-untyped-def]
    indptr, columns, values, dense = rows
    out = penalty * theta
    out[-1] = 0  # the intercept carries no penalty
    if len(dense):
        return out + np.dot(error, dense)
    for i in range(len(error)):
        out[-1] += error[i]
        for at in range(indptr[i], indptr[i + 1]):
            out[columns[at]] += error[i] * values[at]
    return out


@njit(error_model="numpy")
def _hessian(rows, curvature, k, penalty):  # type: ignore[no-untyped-def]
    """Its upper triangle [k + 1, k + 1]."""
    indptr, columns, values, dense = rows
    if len(dense):
        weighted = np.empty_like(dense)
        for i in range(len(dense)):
            for j in range(k + 1):
                weighted[i, j] = curvature[i] * dense[i, j]
        out = np.dot(dense.T, weighted)
    else:
        out = np.zeros((k + 1, k + 1))
        for i in range(len(curvature)):
            out[k, k] += curvature[i]
            for at in range(indptr[i], indptr[i + 1]):
                product, column = curvature[i] * values[at], columns[at]
                out[column, k] += product
                for other in range(indptr[i], at + 1):
                    out[columns[other], column] += product * values[other]
    for j in range(k + 1):
        # Without a penalty the intercept's curvature vanishes where all probabilities saturate.
        added = penalty if j < k else 0.0
        out[j, j] += added + 1e-12 * (1 + out[j, j])
    return out


@njit(error_model="numpy")
def _descend(upper, b):  # type: ignore[no-untyped-def]
    """Solves `symmetric x = b` in place, by Cholesky's factor of an upper triangle; False if it is not positive definite.

    A row of the factor takes from itself those above, four at a time: it is read and written a fourth as often.
    """
    n = len(b)
    for i in range(n):
        row = upper[i, i:]
        fours = i // 4 * 4
        for j in range(0, fours, 4):
            _take_four(row, upper[j, i:], upper[j + 1, i:], upper[j + 2, i:], upper[j + 3, i:])
        for j in range(fours, i):
            above = upper[j, i:]
            factor = above[0]
            for m in range(len(row)):
                row[m] -= factor * above[m]
        if not row[0] > 0:
            return False
        inverse = 1 / np.sqrt(row[0])
        for m in range(len(row)):
            row[m] *= inverse
    for j in range(n):
        b[j] /= upper[j, j]
        for i in range(j + 1, n):
            b[i] -= upper[j, i] * b[j]
    for j in range(n - 1, -1, -1):
        for i in range(j + 1, n):
            b[j] -= upper[j, i] * b[i]
        b[j] /= upper[j, j]
    return np.isfinite(b).all()


@njit(error_model="numpy")
def _take_four(row, a, b, c, d):  # type: ignore[no-untyped-def]
    of_a, of_b, of_c, of_d = a[0], b[0], c[0], d[0]
    for m in range(len(row)):
        row[m] -= (of_a * a[m] + of_b * b[m]) + (of_c * c[m] + of_d * d[m])


@njit(error_model="numpy")
def _penalty(theta, penalty):  # type: ignore[no-untyped-def]
    total = 0.0
    for j in range(len(theta) - 1):
        total += theta[j] * theta[j]
    return 0.5 * penalty * total


@njit(error_model="numpy")
def _loss(logits, y, small, rest, scratch):  # type: ignore[no-untyped-def]
    """Sum of log(1 + exp(-|logit|)) + max(logit, 0) - y logit, where `small` is exp(-|logit|). Overwrites the other two."""
    log1p(small, rest, scratch)
    for i in range(len(logits)):
        rest[i] += max(logits[i], 0.0) - y[i] * logits[i]
    total = 0.0
    for i in range(len(logits)):
        total += rest[i]
    return total


@njit(error_model="numpy")
def exp_of_negative(x, out, rest, scratch):  # type: ignore[no-untyped-def]
    """exp(-|x|) of x [n] to the last bits; 3e-308 where it is less. Overwrites `rest` and `scratch` [n]."""
    for i in range(len(x)):
        negative = max(-abs(x[i]), _LOWEST)
        shifted = negative * _LOG2_E + _SHIFT
        power = shifted - _SHIFT
        scratch[i] = shifted
        rest[i] = (negative - power * _LN2_HIGH) - power * _LN2_LOW
    _polynomial(_INVERSE_FACTORIALS, rest, out)
    bits = scratch.view(np.int64)
    for i in range(len(x)):
        bits[i] = (bits[i] << 52) + (np.int64(1023) << 52)
    for i in range(len(x)):
        out[i] *= scratch[i]


@njit(error_model="numpy")
def log1p(x, out, scratch):  # type: ignore[no-untyped-def]
    """log(1 + x) of x [n] in 0 .. 1 to the last bits, by the series of the inverse hyperbolic tangent."""
    for i in range(len(x)):
        ratio = x[i] / (2 + x[i])
        scratch[i] = ratio * ratio
    _polynomial(_INVERSE_ODD, scratch, out)
    for i in range(len(x)):
        out[i] *= 2 * (x[i] / (2 + x[i]))


@njit(error_model="numpy")
def _polynomial(coefficients, x, out):  # type: ignore[no-untyped-def]
    """By Horner's rule, highest power first, all x together."""
    out[:] = coefficients[0]
    for coefficient in coefficients[1:]:
        for i in range(len(x)):
            out[i] = out[i] * x[i] + coefficient
