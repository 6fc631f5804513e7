"""Draws a world's rows sparsely: a child is looked at only where its parent is active. Without torch.

The distribution is that of `sae_lens.synthetic`'s SyntheticModel, which draws every feature of every row and then takes
most of them away. There a feature fires where its Gaussian field exceeds a threshold; fields are `factor . u` of a row's
shared factors u plus independent noise, so that a feature left out changes nothing for the others. An active feature has
a magnitude relu(N(mean, std)), 0 counting as silent; of mutually exclusive siblings that are active together one stays,
each with equal chance; then, where a parent scales its children, their magnitudes are multiplied by its own over its mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import ndtr, ndtri

from sae_assay.errors import AssayError
from sae_assay.worlds import mixing

TILE = 256  # rows drawn at once: bounds memory, and is part of the stream
Floats = NDArray[np.float32]


class _Active(NamedTuple):
    """Active features of one depth: their rows, numbers and magnitudes, each [count]; row by row."""

    rows: NDArray[np.int64]
    features: NDArray[np.int64]
    values: Floats


class Sampler:
    """A world that draws rows.

    Args:
        arrays: of world.safetensors (`build.read_arrays`).
        nodes: the hierarchy (`build.nodes_of`), or None; features outside it fire by themselves.

    Raises:
        AssayError: a parent that scales its children has no positive mean magnitude to scale by.
    """

    def __init__(self, arrays: Mapping[str, Floats], nodes: list[dict[str, Any]] | None) -> None:
        self.directions, self.bias = arrays["feature_vectors"], arrays["bias"]
        self.means, self.stds = arrays["magnitude_means"], arrays["magnitude_stds"]
        self.num_features, self.d_in = self.directions.shape
        self.thresholds = -ndtri(arrays["firing_probabilities"].astype(np.float64))
        self.factor = arrays.get("correlation_factor", np.zeros((self.num_features, 0), np.float32))
        self.noise = np.sqrt(arrays.get("correlation_diag", np.ones(self.num_features)).astype(np.float64))
        self._plant(nodes or [])
        self._tops_fire = self.thresholds[self.tops], self.noise[self.tops]
        self._top_factor = np.ascontiguousarray(self.factor[self.tops].T)
        self._field = np.empty((TILE, len(self.tops)), np.float32)  # kept: fresh memory costs more than the product

    def _plant(self, nodes: list[dict[str, Any]]) -> None:
        """Turn the hierarchy into arrays: children of feature f are `children[first[f] : first[f] + count[f]]`."""
        self.exclusive, self.scales = (np.zeros(self.num_features, bool) for _ in range(2))
        parents = np.full(self.num_features, -1)
        for node in nodes:
            feature = node["feature"]
            self.exclusive[feature], self.scales[feature] = node["exclusive_children"], node["scales_children"]
            parents[feature] = -1 if node["parent"] is None else node["parent"]
        self.tops = np.flatnonzero(parents < 0)
        self.children = np.argsort(parents, kind="stable")[len(self.tops) :]
        self.count = np.bincount(parents[self.children], minlength=self.num_features)
        self.first = np.cumsum(self.count) - self.count
        if (self.means[self.scales & (self.count > 0)] <= 0).any():
            problem = "a parent that scales its children has a mean magnitude of 0 or less"
            raise AssayError("world", problem, "raise mean_magnitude, or let scale_children_by_parent be false")

    def draw(self, rows: int, generator: np.random.Generator) -> csr_array:
        """Draw the feature activations of at most `TILE` rows: float32 [rows, num_features], features ascending in a row."""
        shared = generator.standard_normal((rows, self.factor.shape[1]), np.float32)
        depths = [self._tops(shared, generator)]
        while len(depths[-1].rows):
            depths.append(self._children(depths[-1], shared, generator))
        found = _Active(*(np.concatenate(parts) for parts in zip(*depths, strict=True)))
        order = np.argsort(found.rows * self.num_features + found.features, kind="stable")
        indptr = np.concatenate([[0], np.cumsum(np.bincount(found.rows, minlength=rows))])
        parts = found.values[order], found.features[order].astype(np.int32), indptr.astype(np.int32)
        return csr_array(parts, (rows, self.num_features))

    def hidden(self, features: csr_array) -> Floats:
        """Rows [rows, d_in] of feature activations."""
        return mixing.rows(features, self.directions, self.bias)

    def _tops(self, shared: Floats, generator: np.random.Generator) -> _Active:
        """Active features that have no parent.

        Most are silent in most rows, which 8 random bits tell: they are the head of a uniform number, of which the tail
        is drawn only where the head lies below the feature's largest probability in this tile.
        """
        field = np.matmul(shared, self._top_factor, out=self._field[: len(shared)])
        heads = (
            generator.bit_generator.random_raw(-(-field.size // 8))
            .astype("<u8", copy=False)
            .view(np.uint8)[: field.size]
        )
        thresholds, noise = self._tops_fire
        chance = ndtr((field.max(0) - thresholds) / noise)
        largest = np.minimum(np.floor(256 * chance), 255).astype(np.uint8)
        found, standing = _below(heads.reshape(field.shape), largest, field, thresholds, noise)
        uniform = (heads[found] + generator.random(len(found))) / 256
        rows, places = np.divmod(found[uniform < ndtr(standing)], len(self.tops))
        features = self.tops[places]
        values = self._magnitudes(features, generator)
        alive = values > 0
        return _Active(rows[alive], features[alive], values[alive])

    def _children(self, above: _Active, shared: Floats, generator: np.random.Generator) -> _Active:
        """Active children of active features."""
        counts = self.count[above.features]
        parents = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(len(parents)) - np.repeat(np.cumsum(counts) - counts, counts)
        features = self.children[self.first[above.features[parents]] + within]
        field = np.einsum("ij,ij->i", self.factor[features], shared[above.rows[parents]])
        fires = generator.random(len(features)) < self._chance(features, field)
        parents, features = parents[fires], features[fires]
        values = self._magnitudes(features, generator)
        alive = values > 0
        alive[alive] = _one_each(parents[alive], self.exclusive[above.features[parents[alive]]], generator)
        parents, features, values = parents[alive], features[alive], values[alive]
        scaled = self.scales[above.features[parents]]
        by = parents[scaled]
        values[scaled] *= above.values[by] / self.means[above.features[by]]
        return _Active(above.rows[parents], features, values)

    def _chance(self, features: NDArray[np.int64], field: Floats) -> NDArray[np.float64]:
        """With what probability features fire, given the shared part of their fields."""
        return ndtr((field - self.thresholds[features]) / self.noise[features])

    def _magnitudes(self, features: NDArray[np.int64], generator: np.random.Generator) -> Floats:
        return self.means[features] + self.stds[features] * generator.standard_normal(len(features), np.float32)


@njit(cache=True, error_model="numpy")
def _below(heads, largest, field, thresholds, noise):  # type: ignore[no-untyped-def]
    """Flat positions where a head [rows, features] is not above its feature's largest, and by how many standard deviations
    of the noise the field is above the threshold there."""
    rows, features = heads.shape
    found, standing, count = np.empty(heads.size, np.int64), np.empty(heads.size), 0
    for i in range(rows):
        for j in range(features):
            if heads[i, j] <= largest[j]:
                found[count] = i * features + j
                standing[count] = (field[i, j] - thresholds[j]) / noise[j]
                count += 1
    return found[:count], standing[:count]


def _one_each(
    groups: NDArray[np.int64], exclusive: NDArray[np.bool_], generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Which entries stay: of each exclusive group (equal neighbours in `groups`) one, any with equal chance; else all."""
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    sizes = np.diff(starts, append=len(groups))
    stay = ~exclusive
    stay[starts + generator.integers(sizes)] = True
    return stay
