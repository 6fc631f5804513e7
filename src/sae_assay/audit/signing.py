"""Signatures on bundles: a DSSE envelope around an in-toto Statement (NNNN.dsse.json), or `ssh-keygen -Y` (NNNN.sig).

The Statement's predicate is the bundle, its subjects are the ledger files and dvc.lock. OpenSSH signs the bundle's own
line. A private key is read from the file that its holder names, and goes nowhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from google.protobuf.json_format import MessageToDict
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner

from sae_assay.audit.bundle import read_text
from sae_assay.audit.findings import Finding
from sae_assay.audit.reading import parse_json
from sae_assay.audit.trust import Trust
from sae_assay.errors import AssayError
from sae_assay.ledger.canonical import canonical
from sae_assay.ledger.files import write_atomically
from sae_assay.ledger.records import line

PAYLOAD_TYPE = "application/vnd.in-toto+json"
PREDICATE_TYPE = "urn:sae-assay:bundle:v1"
NAMESPACE = "sae-assay"
A_TRUSTED_KEY = "a trusted key"


@dataclass(frozen=True)
class Signature:
    """One signature that was found: its kind (`ed25519` or `ssh`), the key, the trusted holder's name or None."""

    kind: str
    key: str
    signer: str | None


def statement(bundle: dict[str, Any]) -> dict[str, Any]:
    """The in-toto Statement v1 about a bundle."""
    subjects = [
        ResourceDescriptor(name=name, digest={"sha256": sha}).pb
        for name, sha in sorted(bundle.get("files", {}).items())
    ]
    made = Statement(subjects, PREDICATE_TYPE, bundle)
    made.validate()
    return MessageToDict(made.pb)


# Signing ---------------------------------------------------------------------------------------------------------------
def generate_key(path: Path) -> CryptoSigner:
    """Make an ed25519 key in a new file that only its owner can read.

    Raises:
        AssayError: the file exists, or lies in a git working tree.
    """
    if any((folder / ".git").exists() for folder in path.absolute().parents):
        raise AssayError(str(path), "lies in a git working tree", "keep private keys away from repositories")
    signer = CryptoSigner.generate_ed25519()
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise AssayError(
            str(path), f"cannot be made: {error.strerror}", "name a new file in a folder of yours"
        ) from None
    with os.fdopen(handle, "wb") as file:
        file.write(signer.private_bytes)
    return signer


def load_key(path: Path) -> CryptoSigner:
    """An ed25519 private key from an unencrypted PEM file.

    Raises:
        AssayError: it is missing, no such key, or others can read it.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise AssayError(str(path), "can be read by others", f"chmod 600 {path}, or make a new key")
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        raise AssayError(
            str(path), "is no readable PEM key without passphrase", "`sae-assay bundle keygen FILE`, or --ssh"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise AssayError(str(path), "is no ed25519 key", "`sae-assay bundle keygen FILE` makes one")
    return CryptoSigner(key)


def sign(bundle: dict[str, Any], file: Path, key: Path) -> Path:
    """Sign a bundle's statement; an envelope that is there gets one more signature. Returns the envelope's path."""
    signer, envelope_file = load_key(key), file.with_suffix(".dsse.json")
    payload = canonical(statement(bundle)).encode()
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    if envelope_file.exists():
        known = _read_envelope(envelope_file)
        envelope = known if known.payload == payload else envelope
    envelope.sign(signer)
    write_atomically(envelope_file, canonical(envelope.to_dict()) + "\n")
    return envelope_file


def sign_ssh(bundle: dict[str, Any], file: Path, key: Path) -> Path:
    """Sign a bundle's line with OpenSSH (`key`: private key, or a public key that the agent holds). Returns NNNN.sig."""
    made = _ssh(["sign", "-f", str(key), "-n", NAMESPACE], line(bundle))
    if made.returncode != 0:
        raise AssayError(str(key), f"ssh-keygen could not sign: {made.stderr.strip()}", "name an OpenSSH key")
    write_atomically(file.with_suffix(".sig"), made.stdout)
    return file.with_suffix(".sig")


# Checking --------------------------------------------------------------------------------------------------------------
def check_signatures(
    bundle: dict[str, Any], file: Path, trust: Trust, require: bool
) -> tuple[list[Signature], list[Finding]]:
    """Who signed a bundle, and what is wrong with it; beside a trusted signature, an unknown signer is only noted.

    Args:
        file: the bundle's NNNN.json; its signatures lie beside it.
        require: take a bundle without a trusted signature for a finding, not for a note.
    """
    item = f"bundle {bundle['number']:04d}"
    found, findings = [], []
    for name, check in ((".dsse.json", _check_envelope), (".sig", _check_ssh)):
        beside = file.with_suffix(name)
        if beside.exists() or beside.is_symlink():
            signatures, wrong = check(bundle, beside, trust, item)
            found += signatures
            findings += wrong
    if any(signature.signer for signature in found):
        findings = [replace(f, note=True) if f.expected == A_TRUSTED_KEY else f for f in findings]
    else:
        seen = "no signature" if not found and not findings else "no signature of a trusted key"
        remedy = "sign it with `sae-assay bundle sign`, or add its signer to your trusted keys"
        findings.append(Finding("UNSIGNED", item, "a trusted signature", seen, remedy, note=not require))
    return found, findings


def _check_envelope(
    bundle: dict[str, Any], file: Path, trust: Trust, item: str
) -> tuple[list[Signature], list[Finding]]:
    envelope = _read_envelope(file)
    if not _is_about(envelope, bundle, str(file)):
        return [], [_untrusted(item, "a statement about this bundle", f"{file.name} signs something else")]
    signatures, findings = [], []
    for keyid in envelope.signatures:
        key = trust.keys.get(keyid)
        signatures.append(Signature("ed25519", keyid, trust.names.get(keyid)))
        if key is None:
            findings.append(_untrusted(item, A_TRUSTED_KEY, f"ed25519 key {keyid}"))
        elif not _holds(envelope, keyid, trust):
            signatures.pop()
            findings.append(_untrusted(item, f"a signature by {trust.names[keyid]}", "one that does not hold"))
    return signatures, findings


def _holds(envelope: Envelope, keyid: str, trust: Trust) -> bool:
    one = Envelope(envelope.payload, envelope.payload_type, {keyid: envelope.signatures[keyid]})
    try:
        return keyid in one.verify([trust.keys[keyid]], 1)
    except (VerificationError, ValueError):
        return False


def _is_about(envelope: Envelope, bundle: dict[str, Any], where: str) -> bool:
    if envelope.payload_type != PAYLOAD_TYPE:
        return False
    try:
        return parse_json(envelope.payload.decode(), where) == statement(bundle)
    except (AssayError, TypeError, ValueError):  # not JSON, or a bundle of an earlier version, which named no files
        return False


def _read_envelope(file: Path) -> Envelope:
    try:
        return Envelope.from_dict(parse_json(read_text(file), str(file)))
    except (KeyError, TypeError, ValueError, AttributeError, VerificationError) as error:
        raise AssayError(str(file), f"is no DSSE envelope: {error}", "restore it from git") from None


def _check_ssh(bundle: dict[str, Any], file: Path, trust: Trust, item: str) -> tuple[list[Signature], list[Finding]]:
    read_text(file)
    text = line(bundle)
    known = _ssh(["check-novalidate", "-n", NAMESPACE, "-s", str(file)], text)
    if known.returncode != 0:
        return [], [_untrusted(item, "a signature of this bundle", f"{file.name} does not hold")]
    key = known.stdout.split(" key ")[-1].strip()
    with tempfile.TemporaryDirectory(prefix="sae-assay-") as folder:
        allowed = Path(folder, "allowed_signers")
        allowed.write_text("".join(f"{entry}\n" for entry in trust.ssh), encoding="utf-8")
        names = _ssh(["find-principals", "-f", str(allowed), "-s", str(file)], "").stdout.splitlines()
        for name in names:
            done = _ssh(["verify", "-f", str(allowed), "-I", name, "-n", NAMESPACE, "-s", str(file)], text)
            if done.returncode == 0:
                return [Signature("ssh", key, name)], []
    return [Signature("ssh", key, None)], [_untrusted(item, A_TRUSTED_KEY, f"ssh key {key}")]


def _ssh(arguments: list[str], text: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise AssayError("ssh-keygen", "is not installed", "install OpenSSH, or sign with an ed25519 key")
    return subprocess.run([program, "-Y", *arguments], input=text, capture_output=True, text=True, check=False)


def _untrusted(item: str, expected: str, found: str) -> Finding:
    remedy = "ask the signer for the public key by another way, and add it to your trusted keys if you trust them"
    return Finding("UNTRUSTED_SIGNER", item, expected, found, remedy)
