"""The tree against RFC 6962's published test vectors, and its proofs against every change of one element."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from sae_assay.audit import merkle

# Certificate Transparency's reference inputs and roots (RFC 6962 test data).
ENTRIES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_rfc_6962(size: int) -> None:
    assert merkle.root(ENTRIES[:size]) == ROOTS[size - 1]


def test_the_empty_list_hashes_to_sha256_of_nothing() -> None:
    assert merkle.root([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_three_leaves_by_hand() -> None:
    a, b, c = (hashlib.sha256(b"\x00" + entry).digest() for entry in (b"a", b"b", b"c"))
    left = hashlib.sha256(b"\x01" + a + b).digest()
    assert merkle.root([b"a", b"b", b"c"]) == hashlib.sha256(b"\x01" + left + c).hexdigest()
    assert merkle.prove([b"a", b"b", b"c"], 2).path == (left.hex(),)


@pytest.mark.parametrize("size", range(1, 20))
def test_every_entry_is_proved_and_no_altered_one(size: int) -> None:
    entries = [bytes([number]) for number in range(size)]
    root = merkle.root(entries)
    for index, entry in enumerate(entries):
        proof = merkle.prove(entries, index)
        assert merkle.check(entry, proof, root)
        assert not merkle.check(entry + b"x", proof, root)
        assert not merkle.check(entry, proof, "0" * 64)
        assert not merkle.check(entry, dataclasses.replace(proof, path=(*proof.path, "00" * 32)), root)
        if size > 1:
            assert not merkle.check(entry, dataclasses.replace(proof, path=proof.path[1:]), root)
            assert not merkle.check(entry, dataclasses.replace(proof, index=(index + 1) % size), root)


def test_a_node_cannot_be_passed_off_as_a_leaf() -> None:
    entries = [b"a", b"b"]
    leaves = b"".join(hashlib.sha256(b"\x00" + entry).digest() for entry in entries)
    assert merkle.root([leaves]) != merkle.root(entries)


def test_an_entry_that_is_not_there_has_no_proof() -> None:
    with pytest.raises(IndexError):
        merkle.prove([b"a"], 1)
    assert not merkle.check(b"a", merkle.Proof(1, 1, ()), merkle.root([b"a"]))
