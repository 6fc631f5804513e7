"""Merkle trees as in RFC 6962, section 2.1: one hash stands for a list, and a short proof shows that an entry is in it.

A leaf is hashed behind the byte 0, a node behind the byte 1, so that neither can be passed off as the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Proof:
    """An audit path: the entry's position, the number of entries, and the sibling hashes (hex) from the leaf upwards."""

    index: int
    size: int
    path: tuple[str, ...]


def root(entries: Sequence[bytes]) -> str:
    """The tree's hash (hex) over entries in the order given; that of the empty list is SHA-256 of nothing."""
    return _hash(entries).hex() if entries else hashlib.sha256().hexdigest()


def prove(entries: Sequence[bytes], index: int) -> Proof:
    """The audit path of the entry at `index`.

    Raises:
        IndexError: there is no such entry.
    """
    if not 0 <= index < len(entries):
        raise IndexError(f"entry {index} of {len(entries)}")
    return Proof(index, len(entries), tuple(node.hex() for node in _path(entries, index)))


def check(entry: bytes, proof: Proof, expected_root: str) -> bool:
    """Whether the proof leads from the entry to the root (RFC 9162, section 2.1.3.2)."""
    if not 0 <= proof.index < proof.size:
        return False
    node, index, last = _leaf(entry), proof.index, proof.size - 1
    for text in proof.path:
        sibling = bytes.fromhex(text)
        if last == 0:
            return False
        if index % 2 or index == last:
            node = _node(sibling, node)
            while index % 2 == 0 and index:
                index, last = index // 2, last // 2
        else:
            node = _node(node, sibling)
        index, last = index // 2, last // 2
    return last == 0 and node.hex() == expected_root


def _leaf(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def _hash(entries: Sequence[bytes]) -> bytes:
    if len(entries) == 1:
        return _leaf(entries[0])
    k = _split(len(entries))
    return _node(_hash(entries[:k]), _hash(entries[k:]))


def _path(entries: Sequence[bytes], index: int) -> list[bytes]:
    if len(entries) == 1:
        return []
    k = _split(len(entries))
    if index < k:
        return [*_path(entries[:k], index), _hash(entries[k:])]
    return [*_path(entries[k:], index - k), _hash(entries[:k])]
