"""SAEBench's AutoInterp on a given model, local text and an OpenAI-compatible judge.

The library's own `run_eval_single_sae` runs. What is put in its place: the text (its loader streams a data set from a hub),
the transport (its client is fixed to one model of one vendor, without limits), and when one draw is made: the numbers of
the scoring prompt's example come from Python's global generator in the order in which replies arrive, which would move
the prompts of a rerun, and pay for them again; here each latent has the draw that it would get if replies came in order.

The job's `config`: `eval`, fields of the library's AutoInterpEvalConfig (not model_name and random_seed, which the job
has), and `judge`: endpoint, model, cap_usd, usd_per_million {input, output}, timeout_s, retries, pause_s, give_up_after.
Its `data`: `text`, a JSON file with a list of texts; `responses`, a folder for replies that were paid for and for
what was spent, shared by all jobs and reruns (default: the job's cache). The key is in the environment, under
OPENAI_API_KEY, and nowhere else.
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from judge import KEY, Budget, Judge, JudgeError, Limits, OpenAIClient, Prices, Responses, key_of
from run import BadInputError, row
from sae_bench.evals.autointerp import main as library
from sae_bench.evals.autointerp.eval_config import AutoInterpEvalConfig
from sae_bench.sae_bench_utils import dataset_utils

COMPONENTS = ("autointerp_score", "coverage")
NO_KEY = f"needs an LLM that judges: set {KEY} (any word where the endpoint asks for none)"
NO_EXAMPLES = "SAEBench finds too few activations for its examples"


class ScoringPrompt(list):
    """Messages of the scoring phase."""


class JudgedAutoInterp(library.AutoInterp):
    """The library's evaluation of one SAE, its questions put to a `Judge`.

    Attributes:
        failures: latent -> why the judge gave no usable reply.
        asked: latents with examples.
    """

    def __init__(self, judge: Judge, **given: Any) -> None:
        super().__init__(**given)
        self.judge, self.failures, self.asked = judge, {}, []

    def gather_data(self) -> tuple[dict[int, Any], dict[int, Any]]:
        """The library's examples; draws what the prompts will need, and refuses what the cap cannot pay.

        Raises:
            BadInputError: all questions together may cost more than what the cap leaves.
        """
        generation, scoring = super().gather_data()
        self.asked = sorted(scoring)
        usd = 0.0
        for latent in self.asked:
            scoring[latent].draws = random.getstate()
            question = super().get_scoring_prompts("", scoring[latent])  # as many draws as the real one
            usd += self._estimate(self.get_generation_prompts(generation[latent]), question)
        check_cap(self.judge.budget, usd, len(self.asked))
        return generation, scoring

    def _estimate(self, generation: Any, scoring: Any) -> float:
        written = self.cfg.max_tokens_in_explanation
        first = self.judge.estimate(generation, written)
        return first + self.judge.estimate(scoring, self.cfg.max_tokens_in_prediction, more=written)

    async def run_single_feature(self, executor: Any, latent: int, *args: Any) -> dict[str, Any] | None:
        """The library's two questions about one latent; a failure is noted, and the others go on."""
        try:
            return await super().run_single_feature(executor, latent, *args)
        except JudgeError as error:
            self.failures[latent] = str(error)
            return None

    def get_scoring_prompts(self, explanation: str, scoring_examples: Any) -> ScoringPrompt:
        """The library's prompt, with the draws kept for this latent."""
        random.setstate(scoring_examples.draws)
        return ScoringPrompt(super().get_scoring_prompts(explanation, scoring_examples))

    def get_api_response(self, messages: Any, max_tokens: int, n_completions: int = 1) -> tuple[list[str], str]:
        """One reply that the library can read, and no log."""
        if n_completions != 1:
            raise ValueError("SAEBench asks for one completion at a time")
        usable = self._is_prediction if isinstance(messages, ScoringPrompt) else self._is_explanation
        return [self.judge.ask(list(messages), max_tokens, usable)], ""

    def _is_explanation(self, text: str) -> bool:
        return bool(self.parse_explanation(text))

    def _is_prediction(self, text: str) -> bool:
        return bool(text) and self.parse_predictions(text) is not None


def check_cap(budget: Budget, usd: float, latents: int) -> None:
    """Say what is about to be spent, and refuse what the cap cannot pay."""
    spent = budget.spent()
    said = f"about {usd:.4f} USD for {latents} latents, {spent:.4f} USD spent before, cap {budget.cap:g} USD"
    print(f"autointerp: {said}", file=sys.stderr)
    if spent + usd > budget.cap:
        raise BadInputError(
            "metrics.autointerp.cap_usd",
            f"would not pay for this job: {said}",
            "raise it, or ask for fewer latents (metrics.autointerp.latents)",
        )


def make_judge(job: dict[str, Any], key: str) -> Judge:
    """The job's judge; replies are kept apart for each endpoint, model and evaluation seed."""
    settings, seed = job["config"]["judge"], job["seed"]
    folder = Path(job["data"].get("responses") or Path(job["cache"]) / "judge")
    asked = {"endpoint": settings["endpoint"], "model": settings["model"], "eval_seed": seed}
    limits = Limits(settings["retries"], settings["pause_s"], settings["give_up_after"])
    return Judge(
        OpenAIClient(settings["endpoint"], settings["model"], key, settings["timeout_s"]),
        asked | {"repeat": job.get("repeat", 0)},
        Prices(**settings["usd_per_million"]),
        Budget(folder / "spent.jsonl", settings["cap_usd"]),
        Responses(folder / "replies"),
        limits,
        request_seed=seed if job["mode"] == "reseeded" else None,
    )


def eval_config(job: dict[str, Any]) -> AutoInterpEvalConfig:
    """The library's settings for this job."""
    own = {"model_name": job["model"]["name"], "random_seed": job["seed"], "llm_dtype": "float32", "llm_batch_size": 32}
    return AutoInterpEvalConfig(**own | job["config"]["eval"])


def texts(path: str | None) -> list[str]:
    """The texts of a JSON file that lists them."""
    remedy = "give a JSON file that lists texts"
    try:
        found = json.loads(Path(path or "").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInputError(str(path), f"cannot be read ({error})", remedy) from None
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise BadInputError(str(path), "is no list of texts", remedy)
    return found


def fill(job: dict[str, Any], model: Any, tokenizer: Any) -> None:
    """Tokenise the text once for all SAEs of a seed, under the name by which the library looks for it.

    Raises:
        BadInputError: the text has fewer tokens than the evaluation reads.
    """
    config = eval_config(job)
    path = _tokens_path(job, config)
    found = texts(job["data"].get("text"))
    with patch.object(dataset_utils, "load_dataset", lambda *_, **__: ({"text": text} for text in found)):
        try:
            tokens = dataset_utils.load_and_tokenize_dataset(
                config.dataset_name, config.llm_context_size, config.total_tokens, tokenizer
            )
        except AssertionError:
            problem = (
                f"has no {config.total_tokens} tokens: SAEBench takes texts of more than 100 characters, 5 for a token"
            )
            raise BadInputError(str(job["data"]["text"]), problem, "give more text, or ask for fewer tokens") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    torch.save(tokens, part)
    part.replace(path)


def _tokens_path(job: dict[str, Any], config: AutoInterpEvalConfig) -> Path:
    name = library.escape_slash(config.model_name)
    return _artifacts(job) / f"{name}_{config.total_tokens}_tokens_{config.llm_context_size}_ctx.pt"


def _artifacts(job: dict[str, Any]) -> Path:
    return Path(job["cache"]) / "autointerp"


def run(job: dict[str, Any], model: Any, tokenizer: Any, sae: Any) -> list[dict[str, Any]]:
    """A row for every latent that was chosen, the library's mean over them, and the share that has a score."""
    try:
        key = key_of(os.environ)
        return _judged(job, model, tokenizer, sae, key) if key else _nothing(NO_KEY)
    except JudgeError as error:  # of the key, or of the file of what was spent
        raise BadInputError("autointerp", str(error), "correct it and run again") from None


def _nothing(reason: str) -> list[dict[str, Any]]:
    return [row(component, None, status="not_applicable", reason=reason) for component in COMPONENTS]


def _judged(job: dict[str, Any], model: Any, tokenizer: Any, sae: Any, key: str) -> list[dict[str, Any]]:
    config = eval_config(job)
    if not _tokens_path(job, config).exists():
        fill(job, model, tokenizer)
    made: list[JudgedAutoInterp] = []

    def make(**given: Any) -> JudgedAutoInterp:
        made.append(JudgedAutoInterp(make_judge(job, key), **given))
        return made[0]

    with patch.object(library, "AutoInterp", make):
        found = library.run_eval_single_sae(config, sae, model, job["device"], str(_artifacts(job)), api_key="")
    print(f"autointerp: {made[0].judge.budget.spent():.4f} USD spent in all", file=sys.stderr)
    return rows(made[0], found)


def rows(evaluated: JudgedAutoInterp, found: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """Scores by latent; the mean is null where a latent that was asked about has no score."""
    scores = {latent: found[latent]["score"] for latent in sorted(found)}
    each = []
    for latent in sorted(evaluated.latents):
        task = f"latent_{latent}"
        if latent in scores:
            each.append(row("autointerp_score", scores[latent], task=task))
        elif latent in evaluated.asked:
            why = evaluated.failures.get(latent, "no score from the library")
            each.append(row("autointerp_score", None, task=task, status="failed", reason=why))
        else:
            each.append(row("autointerp_score", None, task=task, status="not_applicable", reason=NO_EXAMPLES))
    return [_mean(evaluated, scores), _coverage(evaluated, scores), *each]


def _mean(evaluated: JudgedAutoInterp, scores: dict[int, float]) -> dict[str, Any]:
    lost = [latent for latent in evaluated.asked if latent not in scores]
    if lost:
        why = f"{len(lost)} of {len(evaluated.asked)} latents have no score, the first ({lost[0]}): "
        why += evaluated.failures.get(lost[0], "no score from the library")
        return row("autointerp_score", None, status="failed", reason=why)
    if not scores:
        return row("autointerp_score", None, status="too_few_rows", reason=NO_EXAMPLES)
    return row("autointerp_score", torch.tensor(list(scores.values())).mean().item())


def _coverage(evaluated: JudgedAutoInterp, scores: dict[int, float]) -> dict[str, Any]:
    if not evaluated.asked:
        return row("coverage", None, status="too_few_rows", reason=NO_EXAMPLES)
    return row("coverage", len(scores) / len(evaluated.asked))
