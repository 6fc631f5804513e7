"""trusted-keys.yaml: whose signatures count. An auditor brings their own; the one in a tree says whom its authors trust."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from securesystemslib.signer import Key, SSlibKey

from sae_assay.audit.bundle import read_text
from sae_assay.audit.reading import parse_yaml
from sae_assay.errors import AssayError

TRUSTED = "trusted-keys.yaml"


@dataclass(frozen=True)
class Trust:
    """Trusted keys.

    Attributes:
        keys: key id -> ed25519 public key.
        names: key id -> who holds it.
        ssh: lines of an OpenSSH allowed_signers file.
    """

    keys: dict[str, Key] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    ssh: tuple[str, ...] = ()


def public_entry(key: SSlibKey, name: str) -> dict[str, Any]:
    """A key as trusted-keys.yaml lists it."""
    return {"name": name, "keyid": key.keyid, "public": key.keyval["public"]}


def ed25519_key(keyid: str, public: str) -> SSlibKey:
    """An ed25519 key from its 32 bytes in hex, or its PEM text."""
    return SSlibKey(keyid, "ed25519", "ed25519", {"public": public})


def read_trust(path: Path) -> Trust:
    """Read trusted keys; an absent or empty file trusts nobody.

    Raises:
        AssayError: the file is no such list.
    """
    if not path.exists():
        return Trust()
    try:
        raw = parse_yaml(read_text(path), str(path)) or {}
        entries, ssh = list(raw.get("ed25519") or []), tuple(raw.get("ssh") or [])
        fields = [entry[name] for entry in entries for name in ("keyid", "name", "public")]
        if not all(isinstance(text, str) for text in (*fields, *ssh)):
            raise TypeError("every field is a text, in quotes where YAML would take it for a number")
        keys: dict[str, Key] = {entry["keyid"]: ed25519_key(entry["keyid"], entry["public"]) for entry in entries}
        names = {entry["keyid"]: entry["name"] for entry in entries}
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise AssayError(str(path), f"is no list of trusted keys: {error}", f"see the comment in {TRUSTED}") from None
    if len(keys) != len(entries) or any("\n" in text for text in ssh):
        raise AssayError(str(path), "names a key twice, or an ssh line holds two lines", "name each key once")
    return Trust(keys, names, ssh)
