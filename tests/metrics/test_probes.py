"""Lockstep training against torch's own optimiser, and the draws."""

from __future__ import annotations

import pytest
import torch

from sae_assay.metrics import probes


def _data(seed: int = 0, d: int = 12) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.cat([torch.randn(90, d, generator=g) + 0.7, torch.randn(200, d, generator=g)])


def _plans(g: torch.Generator) -> list[probes.ProbePlan]:
    """Three probes of different sizes, the last batch of each incomplete."""
    positive, negative = torch.arange(90), torch.arange(90, 290)
    parts = [(37, 11), (51, 25), (60, 30)]
    return [
        probes.plan([positive[:m], negative[:m]], [positive[-r:], negative[-r:]], 0, 12, g, paired=True)
        for m, r in parts
    ]


def _one_by_one(x: torch.Tensor, plan: probes.ProbePlan) -> tuple[torch.Tensor, float]:
    """The same probe by autograd and torch.optim.AdamW."""
    layer = torch.nn.Linear(x.shape[1], 1)
    with torch.no_grad():
        layer.weight[0], layer.bias[0] = plan.weight, plan.bias
    optimiser = torch.optim.AdamW(layer.parameters(), lr=1e-3)
    best, kept = -1.0, torch.empty(0)
    for order in plan.orders:
        for batch in order.split(16):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                layer(x[plan.train_rows[batch]])[:, 0], plan.train_labels[batch]
            )
            optimiser.zero_grad()
            (loss + 1e-3 * layer.weight.abs().sum()).backward()
            optimiser.step()
        said = layer(x[plan.select_rows])[:, 0] > 0
        if (accuracy := (said == (plan.select_labels > 0)).float().mean().item()) > best:
            best, kept = accuracy, torch.cat([layer.weight[0], layer.bias]).detach().clone()
    return kept, best


def test_lockstep_equals_one_by_one() -> None:
    x, plans = _data(), _plans(torch.Generator().manual_seed(1))
    together = probes.train(x, plans)
    for i, plan in enumerate(plans):
        parameters, accuracy = _one_by_one(x, plan)
        assert together.accuracy[i].item() == accuracy > 0.6
        torch.testing.assert_close(together.weight[i], parameters[:-1], rtol=0, atol=1e-5)
        torch.testing.assert_close(together.bias[i], parameters[-1], rtol=0, atol=1e-5)
    assert together.epoch.max() > 0


def test_equal_generators_give_equal_probes_and_others_do_not() -> None:
    x = _data()
    a, b, c = (probes.train(x, _plans(torch.Generator().manual_seed(seed))) for seed in (3, 3, 4))
    assert torch.equal(a.weight, b.weight) and not torch.equal(a.weight, c.weight)


def test_a_sample_is_balanced_and_holds_no_positive() -> None:
    sizes = [10, 7, 9, 8]
    for c in range(4):
        found = probes.draw_sample(sizes, c, torch.Generator().manual_seed(c)).negatives
        assert len(found) == len(set(found.tolist())) == sizes[c]
        assert not set(found.tolist()) & set(range(sum(sizes[:c]), sum(sizes[: c + 1])))


def test_the_draws_are_those_of_torchs_global_generator() -> None:
    found = probes.draw_sample([4, 8], 0, torch.Generator().manual_seed(5))
    torch.manual_seed(5)
    first = torch.randperm(8)[:4]
    assert torch.equal(found.negatives, 4 + first[torch.randperm(4)])
    assert torch.equal(found.order, torch.randperm(8))


def test_too_few_negatives_are_refused() -> None:
    with pytest.raises(ValueError, match="10 negatives wanted, 6 rows to draw them from"):
        probes.draw_sample([10, 6], 0, torch.Generator(), paired=True)


def test_no_probe_is_no_probe() -> None:
    assert probes.train(_data(), []).weight.shape == (0, 12)
