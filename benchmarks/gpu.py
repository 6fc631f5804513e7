"""Rates of the GPU paths against what the device can do: encoding, training, reading text with a language model.

    uv run python benchmarks/gpu.py                     # all, some two minutes on an H100
    uv run python benchmarks/gpu.py --only encode train
    uv run python benchmarks/gpu.py --device cpu --scale 16    # does it run? sizes divided, no figures to report

Models and SAEs have the shapes of the studies and random weights: they are there to be worked on, nothing is scored.
Every rate is a median of several turns after two warm-up turns. `busy` divides it by the device's own rate for the same
arithmetic, a large matrix product, measured in the same run. Lines of JSON; docs/measurements/gpu.md reads them.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness import restart

WORLD = {"d_in": 768, "d_sae": 4096}  # studies/synth16k.yaml
ARCHS = ("batchtopk", "matryoshka", "standard", "jumprelu", "matching_pursuit")
GEMMA = {  # Gemma-2-2b's configuration
    "vocab_size": 256_000, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 256, "sliding_window": 4096,
}  # fmt: skip
SMOLLM = {
    "layers": 30,
    "d_model": 576,
    "heads": 9,
    "key_value_heads": 3,
    "rope_base": 1e4,
    "norm_eps": 1e-5,
    "vocabulary": 49_152,
}
D_MLP = 1536


class Bench:
    """A device, sizes divided by `scale`, and what the device can do."""

    def __init__(self, device: str, scale: int) -> None:
        self.device, self.scale, self.peak = device, scale, {}

    def report(self, name: str, **values: Any) -> None:
        rounded = {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in values.items()}
        print(json.dumps({"measured": name, **rounded}), flush=True)

    def seconds(self, act: Callable[[], Any], turns: int = 5) -> float:
        """The median of some turns of `act`, waited for."""
        found = []
        for _ in range(2 + turns):
            self.wait()
            start = time.perf_counter()
            act()
            self.wait()
            found.append(time.perf_counter() - start)
        return statistics.median(found[2:])

    def wait(self) -> None:
        import torch

        if self.device != "cpu":
            torch.cuda.synchronize()

    def small(self, size: int) -> int:
        return max(1, size // self.scale)

    def busy(self, flop: float, seconds: float, kind: str) -> float:
        return flop / seconds / self.peak[kind]


def ceilings(b: Bench) -> None:
    """Matrix products of three kinds, a copy on the device, and copies to and from it."""
    import torch

    from sae_assay import numerics

    n = b.small(8192)
    for kind, dtype, tf32 in (
        ("fp32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("bf16", torch.bfloat16, False),
    ):
        x, y = (torch.randn(n, n, device=b.device, dtype=dtype) for _ in range(2))
        with numerics.tf32(tf32):
            b.peak[kind] = 2 * n**3 / b.seconds(lambda x=x, y=y: x @ y)
    x, host = torch.randn(b.small(1 << 28), device=b.device), torch.randn(b.small(1 << 26))
    y, there = torch.empty_like(x), host.to(b.device)
    b.report(
        "ceilings",
        **{f"{kind}_tflops": rate / 1e12 for kind, rate in b.peak.items()},
        copy_gb_s=8 * len(x) / b.seconds(lambda: y.copy_(x)) / 1e9,
        to_device_gb_s=4 * len(host) / b.seconds(lambda: host.to(b.device)) / 1e9,
        from_device_gb_s=4 * len(host) / b.seconds(lambda: there.cpu()) / 1e9,
    )


def encode(b: Bench) -> None:
    """Rows encoded a second: latents left on the device, without the silent ones as scoring wants them, dense to the host."""
    import torch

    from sae_assay.metrics.latents import SparseLatents
    from sae_assay.saes.encoder import LightSAE

    for name, d_in, d_sae, l0 in (
        *((arch, *WORLD.values(), 25) for arch in ARCHS),
        ("jumprelu", 2304, 16_384, 82),
        ("jumprelu", 2304, 65_536, 72),
        ("batchtopk", 2304, 36_864, 50),
    ):
        d_sae = b.small(d_sae)
        W_dec = torch.nn.functional.normalize(torch.randn(d_sae, d_in), dim=1)
        pursuit, active = name == "matching_pursuit", min(0.5, l0 / d_sae)
        x = torch.randn(b.small(1 << 26) // d_sae, d_in)
        # The projections of a normal row on unit rows are normal: this threshold leaves `l0` of them active.
        threshold = torch.full((d_sae,), float(torch.special.ndtri(torch.tensor(1 - active))))
        sae = LightSAE(
            arch="matching_pursuit" if pursuit else "jumprelu",
            W_enc=torch.empty(0) if pursuit else W_dec.T.contiguous(),
            b_enc=torch.zeros(d_sae),
            W_dec=W_dec,
            b_dec=torch.zeros(d_in),
            threshold=None if pursuit else threshold,
            config={"max_iterations": l0} if pursuit else {},
            card={},
        ).on(b.device)
        there = x.to(b.device)
        worker = sae.worker
        left = b.seconds(lambda worker=worker, there=there: worker.encode(there))
        active_only = b.seconds(lambda worker=worker, x=x: SparseLatents.of(worker.encode(x.to(b.device))))
        dense = b.seconds(lambda sae=sae, x=x: sae.encode(x), 3)
        b.report(
            f"encode {name} {d_in} -> {d_sae}, L0 {l0}",
            rows=len(x),
            rows_per_second=len(x) / active_only,
            rows_per_second_on_device=len(x) / left,
            rows_per_second_dense_to_host=len(x) / dense,
            busy=b.busy(2.0 * len(x) * d_in * d_sae, left, "fp32"),
        )


def train(b: Bench) -> None:
    """Milliseconds a step of sae_lens's trainer at the 16k study's shape, rows made from sparse features as in the study."""
    import numpy as np
    import torch
    from scipy.sparse import random_array

    from sae_assay.saes import train as training
    from sae_assay.saes.rows import FeatureRows
    from sae_assay.saes.settings import RunSettings, batches

    d_in, d_sae, features, batch = WORLD["d_in"], b.small(WORLD["d_sae"]), b.small(16_384), 1024
    draw = np.random.default_rng(0)
    active = random_array((40_000, features), density=34.5 / features, format="csr", dtype=np.float32, rng=draw)
    directions = draw.standard_normal((features, d_in)).astype(np.float32) / d_in**0.5
    rows = FeatureRows(active, directions, np.zeros(d_in, np.float32), b.device)
    order = torch.randint(len(rows), (batch,), generator=torch.Generator().manual_seed(0))
    b.report("making a batch of 1,024 rows of the 16k world", ms=1e3 * b.seconds(lambda: rows[order], 20))
    for arch, autocast in itertools.product(ARCHS, (False, True)):
        run = RunSettings(
            "run", arch, 25, 0, ("benchmark",), d_sae, 1_000_000, batch, 3e-4, device=b.device, autocast=autocast,
            widths=(d_sae // 32, d_sae // 8, d_sae // 2, d_sae) if arch == "matryoshka" else None,
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            trainer = training.Trainer(run, training.initialised(run, d_in), iter(()), [run.steps])
        trainer.sae.to(b.device)
        stream = batches(rows, run)

        def steps(number: int = 1 if b.device == "cpu" else 20, stream: Any = stream, trainer: Any = trainer) -> None:
            for _ in range(number):
                trainer.step(next(stream))
                trainer.n_training_steps += 1

        taken = b.seconds(steps) / (1 if b.device == "cpu" else 20)
        flop = 12.0 * batch * d_in * d_sae  # encode and decode, forward and twice that backward
        kind = "bf16" if autocast else "fp32"
        b.report(
            f"train {arch}{', autocast' if autocast else ''}",
            ms_a_step=1e3 * taken,
            samples_per_second=batch / taken,
            busy=None if arch == "matching_pursuit" else b.busy(flop, taken, kind),
        )


def lm(b: Bench) -> None:
    """Tokens a second up to the hook: SmolLM2's shape in our own model, Gemma-2-2b's in transformers', as rows of a stream."""
    import numpy as np
    import torch

    from sae_assay import numerics
    from sae_assay.lms.stream import Position, TokenRows
    from sae_assay.lms.tokens import Windows

    for name, model, layer, weights in (
        ("SmolLM2-135M", _smollm(b), 15, 16 * 3.54e6),
        ("Gemma-2-2b", _gemma(b), 12, 13 * 7.78e7),
    ):
        vocabulary, d_model = len(model.embedding), model.config.d_model
        for context, tf32 in itertools.product((128, 1024), (False, True)):
            tokens = b.small(32_768) // context * context or context
            drawn = np.random.default_rng(0).integers(0, vocabulary, (10 * tokens // context, context))
            windows = Windows(drawn, np.full(len(drawn), context))
            rows = TokenRows(model, windows, layer, float("inf"), tf32)
            rows._together = tokens // context
            batch = torch.from_numpy(drawn[: tokens // context])
            with numerics.tf32(tf32):
                model_only = b.seconds(lambda model=model, batch=batch, layer=layer: model.residual(batch, layer), 3)
            number = itertools.count()

            def block(
                rows: Any = rows, tokens: int = tokens, number: Iterator[int] = number, context: int = context
            ) -> None:
                rows._last = None
                rows.take(tokens // context * (context - 1), Position(next(number)))

            streamed = b.seconds(block, 3)
            b.report(
                f"{name} to block {layer}, context {context}{', tf32' if tf32 else ''}",
                tokens_per_second=tokens / streamed,
                tokens_per_second_model=tokens / model_only,
                busy=b.busy(2 * weights * tokens, model_only, "tf32" if tf32 else "fp32"),
                d_model=d_model,
            )


def _smollm(b: Bench) -> Any:
    import torch

    from sae_assay.lms.model import Block, Llama, LlamaConfig

    config = LlamaConfig(**SMOLLM)

    def weight(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=b.device) / shape[-1] ** 0.5

    d, kv, norm = config.d_model, config.key_value_heads * config.d_head, torch.ones(config.d_model, device=b.device)
    block = Block(
        norm,
        weight(d, d),
        weight(kv, d),
        weight(kv, d),
        weight(d, d),
        norm,
        weight(D_MLP, d),
        weight(D_MLP, d),
        weight(d, D_MLP),
    )
    embedding = weight(config.vocabulary, d)
    return Llama(config, embedding, [block] * config.layers, norm, embedding)


def _gemma(b: Bench) -> Any:
    import torch
    import transformers

    from sae_assay.lms.hub_model import HubModel

    config: Any = transformers.Gemma2Config(
        **{**GEMMA, "vocab_size": b.small(GEMMA["vocab_size"]), "num_hidden_layers": 13}
    )
    config._attn_implementation = "eager"  # as hub_model loads it
    with torch.device(b.device):
        return HubModel(transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval())


def side_by_side(b: Bench) -> None:
    """Milliseconds a step of the paper's two panels: four SAEs of 36,864 latents each on one stream of ready rows."""
    import torch

    from sae_assay.saes.settings import RunSettings
    from sae_assay.saes.side_by_side import Group, Member

    d_in, d_sae, batch, turns = 2304, b.small(36_864), b.small(4096), 20
    shared: Any = {"device": b.device, "autocast": True}
    prefixed = {"widths": (d_sae // 16, d_sae // 4, d_sae), "auxiliary_per_prefix": True}
    panels = {
        "cross": [
            ("batchtopk", 50, {}),
            ("batchtopk", 100, {}),
            ("matryoshka", 50, prefixed),
            ("matryoshka", 100, prefixed),
        ],
        "sampled": [("sampled_matryoshka", 150, {"prefixes": n, "smallest_prefix": 64}) for n in (1, 2, 3, 4)],
    }
    rows = torch.randn(8 * batch, d_in)
    for name, members in panels.items():
        runs = [
            RunSettings(
                f"{arch}_{k}_{i}", arch, k, 0, ("benchmark",), d_sae, 10_000 * batch, batch, 3e-4, **shared, **more
            )
            for i, (arch, k, more) in enumerate(members)
        ]
        for label, some in (
            (f"{name} panel", runs),
            (f"{name} panel, first alone", runs[:1]),
            (f"{name} panel, last alone", runs[-1:]),
        ):
            with tempfile.TemporaryDirectory() as folder:
                group, times = Group([Member(run, []) for run in some], rows[:batch], Path(folder)), []

                def stream(times: list[float] = times) -> Iterator[torch.Tensor]:
                    for place in itertools.islice(itertools.cycle(rows.split(batch)), turns):
                        b.wait()
                        times.append(time.perf_counter())
                        yield place

                with contextlib.suppress(StopIteration):  # the stream ends long before the run does
                    group.fit(stream(), 1 << 40, dict)
            taken = statistics.median(after - before for before, after in itertools.pairwise(times[3:]))
            memory = torch.cuda.max_memory_allocated() / 2**30 if b.device != "cpu" else None
            flop = 12.0 * batch * d_in * d_sae * len(some)
            b.report(
                label,
                ms_a_step=1e3 * taken,
                tokens_per_second=batch / taken,
                busy=b.busy(flop, taken, "bf16"),
                gib=memory,
            )
            del group
            if b.device != "cpu":
                gc.collect()  # a trainer refers to itself
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()


STAGES = {"encode": encode, "train": train, "lm": lm, "side_by_side": side_by_side}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--device", default="cuda", help="torch device (default: cuda)")
    parser.add_argument("--scale", type=int, default=1, help="divide sizes by this, to try the script")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if not chosen.inside:
        restart("native")
    import torch

    from sae_assay import numerics

    device = (
        chosen.device
        if chosen.device == "cpu" or torch.cuda.is_available()
        else parser.error("no CUDA here: --device cpu")
    )
    numerics.begin({"device": device})
    bench = Bench(device, chosen.scale)
    name = "CPU" if device == "cpu" else torch.cuda.get_device_name()
    bench.report("machine", device=name, torch=torch.__version__, cuda=torch.version.cuda)
    ceilings(bench)
    for stage in chosen.only:
        torch.manual_seed(0)
        STAGES[stage](bench)


if __name__ == "__main__":
    main()
