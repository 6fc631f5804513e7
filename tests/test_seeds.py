"""Named streams: equal names give equal draws, different names different ones."""

from sae_assay import seeds


def test_streams_are_named() -> None:
    draw = lambda *name: seeds.numpy_generator(*name).integers(0, 2**62, 4).tolist()  # noqa: E731
    assert draw("a", 1) == draw("a", 1)
    assert draw("a", 1) != draw("a", "1")
    assert draw("a", "b") != draw("ab")


def test_integer_is_stable_over_versions() -> None:
    assert 0 <= seeds.integer("pool", 42) < 2**63
    assert seeds.integer("pool", 42) != seeds.integer("pool", 43)
