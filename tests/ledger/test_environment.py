"""Which locked packages a job depends on."""

from sae_assay.ledger import environment
from sae_assay.ledger.environment import process_environment, reachable


def package(name, *needs, version="1", **more):
    return {"name": name, "version": version, "dependencies": [{"name": need} for need in needs], **more}


def test_groups_follow_dependencies_and_leave_tools_and_development_out():
    lock = {
        "package": [
            package(
                "sae-assay",
                "polars",
                "dvc",
                **{"dev-dependencies": {"compute": [{"name": "torch"}], "dev": [{"name": "ruff"}]}},
            ),
            package("polars", "runtime"),
            package("runtime"),
            package("dvc", "celery"),
            package("celery"),
            package("torch", "sympy"),
            package("sympy"),
            package("ruff"),
        ]
    }
    groups = reachable(lock)
    assert set(groups["light"]) == {"polars", "runtime"}
    assert set(groups["compute"]) == {"polars", "runtime", "torch", "sympy"}


def test_an_extra_and_a_fork_are_followed():
    lock = {
        "package": [
            {"name": "sae-assay", "dependencies": [{"name": "a", "extra": ["x"]}, {"name": "b"}]},
            package("a", **{"optional-dependencies": {"x": [{"name": "c"}], "y": [{"name": "d"}]}}),
            package("b", version="1"),
            package("b", version="2"),
            package("c"),
            package("d"),
        ]
    }
    assert reachable(lock)["light"] == {"a": "1", "b": "1,2", "c": "1"}


def test_a_native_job_does_not_inherit_the_portable_path(monkeypatch):
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert "ATEN_CPU_CAPABILITY" not in process_environment("native", 1)
    portable = process_environment("portable", 2)
    assert (portable["MKL_CBWR"], portable["OMP_NUM_THREADS"], portable["PYTHONHASHSEED"]) == ("COMPATIBLE", "2", "0")


def test_numba_keeps_its_loops_where_a_job_can_write(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    assert process_environment("native", 1)["NUMBA_CACHE_DIR"] == str(tmp_path / ".sae-assay" / "numba")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/elsewhere")
    assert process_environment("native", 1)["NUMBA_CACHE_DIR"] == "/elsewhere"


def test_the_native_profile_names_what_makes_bfloat16_fast(monkeypatch):
    def named(profile, *flags):
        monkeypatch.setattr(environment, "_flags", lambda: {"avx2", "avx512f", *flags})
        environment.numeric_profile.cache_clear()
        return environment.numeric_profile(profile)["instruction_set"]

    assert named("native") == "avx512" and named("native", "avx512_bf16") == "avx512_bf16"
    assert named("native", "avx512_bf16", "amx_bf16") == "amx" and named("portable", "amx_bf16") == "avx512"
    environment.numeric_profile.cache_clear()
