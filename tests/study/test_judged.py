"""Sections of RAVEL and AutoInterp: what they say, what they refuse, and what they estimate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sae_assay.errors import AssayError
from sae_assay.metrics import saebench
from sae_assay.plan import Plan
from sae_assay.plan.names import dump
from sae_assay.study import Study
from sae_assay.study.judged import LibraryAutoInterp, LibraryRavel

ROOT = Path(__file__).parents[2]
JUDGE = {"endpoint": "https://api.example.org/v1", "cap_usd": 2.0, "usd_per_million": {"input": 0.15, "output": 0.6}}


def study(tmp_path: Path, **metrics: Any) -> Path:
    """The shipped study of SAEBench with other metrics: 2 SAEs, 2 evaluation seeds, one SAE scored twice at one."""
    raw = yaml.safe_load((ROOT / "studies/saebench.yaml").read_text())
    raw["metrics"], raw["scorecard"]["primary"] = {"reconstruction": {}, **metrics}, {}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"endpoint": "api.example.org"}, "endpoint is no base URL"),
        ({"endpoint": "https://me:sk-secret@example.org/v1"}, "endpoint holds more than a base URL"),
        ({"endpoint": "https://example.org/v1?key=sk-secret"}, "endpoint holds more than a base URL"),
        ({"api_key": "sk-secret"}, "unknown key metrics.autointerp.api_key"),
        ({"cap_usd": -1}, "metrics.autointerp.cap_usd"),
        ({"usd_per_million": {"input": 0.15}}, "metrics.autointerp.usd_per_million.output is missing"),
        ({"timeout_s": 0}, "metrics.autointerp.timeout_s"),
        ({"latents": [3, 3]}, r"latents lists \[3\] twice"),
        ({"context": 16}, "context is 16"),
        ({"retires": 2}, "did you mean retries"),
    ],
)
def test_a_wrong_judge_is_refused_and_no_secret_is_repeated(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(AssayError, match=said) as caught:
        Study.load(study(tmp_path, autointerp=JUDGE | change))
    assert "sk-secret" not in str(caught.value)


def test_a_study_says_what_a_judge_may_cost(tmp_path: Path) -> None:
    without = {key: value for key, value in JUDGE.items() if key != "cap_usd"}
    with pytest.raises(AssayError, match=r"metrics\.autointerp\.cap_usd is missing"):
        Study.load(study(tmp_path, autointerp=without))


def test_ravel_holds_two_attributes_apart(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match=r"entities\.city has \['Country'\]"):
        Study.load(study(tmp_path, ravel={"entities": {"city": ["Country"]}}))
    section = LibraryRavel(data="data/inputs/ravel", entities={"city": ["Country", "Language"]})
    assert section.files == [
        f"data/inputs/ravel/ravel_city_{part}.json"
        for part in ("attribute_to_prompts", "entity_attributes", "entity_to_split", "prompt_to_split")
    ]
    assert LibraryRavel().files == []


def test_settings_have_saebenchs_names_and_no_key() -> None:
    found = saebench.config("autointerp", dump(LibraryAutoInterp(**JUDGE, latents=[4, 2])), {}, "")
    assert found["eval"]["n_latents"] is None and found["eval"]["override_latents"] == [4, 2]
    assert found["judge"]["cap_usd"] == 2.0 and found["judge"]["usd_per_million"] == {"input": 0.15, "output": 0.6}
    ravel = saebench.config("ravel", dump(LibraryRavel(pairs=7)), {}, "")
    assert (ravel["num_pairs_per_attribute"], ravel["num_epochs"], ravel["n_generated_tokens"]) == (7, 2, 6)


def test_the_estimate_is_jobs_by_latents_by_tokens_by_price() -> None:
    section = LibraryAutoInterp(**JUDGE, latents=100)
    # A latent: 2,000 tokens at 0.15 and 63 at 0.60 USD per million = 0.0003 + 0.0000378 USD.
    assert section.estimate_usd(3) == pytest.approx(3 * 100 * 0.0003378)


def test_a_plan_that_costs_more_than_the_cap_is_refused_before_any_work(tmp_path: Path) -> None:
    # 2 SAEs at 2 seeds, and one again at one seed: 5 jobs of 1,000 latents at 0.0003378 USD = 1.69 USD.
    plan = Plan(Study.load(study(tmp_path, autointerp=JUDGE | {"cap_usd": 1.6})))
    jobs = [job for job in plan.library_jobs() if job.metric == "autointerp"]
    assert len(jobs) == 5
    with pytest.raises(AssayError, match=r"metrics\.autointerp\.cap_usd: is 1\.6 USD, but 5 jobs .* about 1\.69 USD"):
        plan.check_judge()
    Plan(Study.load(study(tmp_path, autointerp=JUDGE | {"cap_usd": 1.7}))).check_judge()
