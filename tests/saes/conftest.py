from __future__ import annotations

from typing import Any

import numpy as np
import pytest

D_IN, D_SAE = 6, 12


@pytest.fixture
def make_sae() -> Any:
    """Configuration and random weights of any architecture; decoder rows are not of norm 1."""

    def make(arch: str, **config: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        draw = np.random.default_rng(5).standard_normal
        weights = {
            "W_enc": draw((D_IN, D_SAE)),
            "W_dec": draw((D_SAE, D_IN)) * 0.7,
            "b_enc": draw(D_SAE) * 0.1,
            "b_dec": draw(D_IN) * 0.1,
            "threshold": np.abs(draw(D_SAE)) * 0.3,
        }
        if arch == "matching_pursuit":
            weights["W_dec"] /= np.linalg.norm(weights["W_dec"], axis=1, keepdims=True)
        names = {"matching_pursuit": ("W_dec", "b_dec"), "jumprelu": tuple(weights)}.get(arch, tuple(weights)[:4])
        base = {"architecture": arch, "d_in": D_IN, "d_sae": D_SAE}
        return base | config, {name: weights[name].astype(np.float32) for name in names}

    return make
