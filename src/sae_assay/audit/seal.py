"""`bundle sign` and `bundle check`: what is signed must verify first; what is checked says who signed what, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sae_assay.audit import bundle as bundles
from sae_assay.audit.findings import Finding
from sae_assay.audit.signing import Signature, check_signatures, sign, sign_ssh
from sae_assay.audit.tree import History
from sae_assay.audit.trust import Trust
from sae_assay.errors import AssayError
from sae_assay.ledger.files import write_atomically
from sae_assay.ledger.records import LEDGER, line


@dataclass
class Report:
    """What `bundle check` found; `bundles` says of each bundle what it is, who signed it and when it was committed."""

    study: str
    bundles: list[dict[str, Any]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether there are only notes."""
        return all(finding.note for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        found = [asdict(finding) for finding in self.findings]
        return {"study": self.study, "clean": self.clean, "bundles": self.bundles, "findings": found}


def seal(root: Path, study: str, key: Path, ssh: bool, verify: Callable[[], list[Finding]]) -> dict[str, Any]:
    """Bundle the committed records and sign the bundle; the last bundle is signed again where nothing has changed.

    Args:
        verify: the verification that must find nothing before anything is signed.

    Returns:
        The bundle, and the paths of what was written.

    Raises:
        AssayError: the records are not committed, the chain is broken, or `verify` has findings.
    """
    commit = _committed(root, study)
    earlier, contents = bundles.read_bundles(root, study), bundles.read_contents(root, study)
    found = [*contents.findings, *bundles.check_chain(earlier, study), *verify()]
    wrong = [finding for finding in found if not finding.note]
    if wrong:
        first = wrong[0]
        raise AssayError(
            f"study {study}",
            f"{len(wrong)} findings, the first {first.code} at {first.item}; nothing is signed unless it verifies",
            "see `sae-assay verify --depth 2`",
        )
    current = bool(earlier) and bundles.is_current(earlier[-1], root, contents)
    bundle = earlier[-1] if current else bundles.make_bundle(root, study, commit, earlier)
    file = bundles.folder_of(root, study) / f"{bundle['number']:04d}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    signature = (sign_ssh if ssh else sign)(bundle, file, key)
    if not current:
        write_atomically(file, line(bundle))
    return {"bundle": bundle, "file": str(file), "signature": str(signature)}


def check(root: Path, study: str, trust: Trust, require_signed: bool) -> Report:
    """Check a study's bundles: ids, chain, the last one against the records that are here, every signature."""
    report, chain = Report(study), bundles.read_bundles(root, study)
    contents = bundles.read_contents(root, study)
    report.findings += [*contents.findings, *bundles.check_chain(chain, study)]
    if not chain:
        remedy = "`sae-assay bundle sign --key FILE`"
        report.findings.append(
            Finding("UNSIGNED", f"study {study}", "a signed bundle", "no bundle", remedy, note=not require_signed)
        )
        return report
    report.findings += bundles.check_current(chain[-1], root, contents)
    for bundle in chain:
        file = bundles.folder_of(root, study) / f"{bundle['number']:04d}.json"
        signatures, findings = check_signatures(bundle, file, trust, require_signed)
        report.findings += findings
        report.bundles.append(_describe(root, bundle, file, signatures))
    return report


def report_lines(report: Report, trust_file: Path) -> list[str]:
    """The report as text."""
    lines = [f"trusted keys: {trust_file}"]
    for bundle in report.bundles:
        count = sum(bundle["records"].values())
        lines.append(
            f"bundle {bundle['number']:04d}: {count} records at commit {str(bundle['commit'])[:12]}, "
            f"committed {bundle['committed'] or 'not yet'}"
        )
        lines += [f"  {s['kind']} {s['key']}: {s['signer'] or 'an unknown signer'}" for s in bundle["signatures"]]
    for one in report.findings:
        kind = "note " if one.note else ""
        lines.append(
            f"{kind}{one.code} {one.item}: expected {one.expected}, found {one.found}. What to do: {one.remedy}."
        )
    return [*lines, "clean" if report.clean else "not clean"]


def proof_of(root: Path, study: str, record_id: str) -> dict[str, Any]:
    """The proof that a record is in the last bundle; `holds` says whether it leads to the bundle's root.

    Raises:
        AssayError: there is no such record, or no bundle.
    """
    chain = bundles.read_bundles(root, study)
    if not chain:
        raise AssayError(f"study {study}", "has no bundle", "`sae-assay bundle sign --key FILE`")
    proof = bundles.prove(record_id, bundles.read_contents(root, study))
    holds = bundles.check_proof(record_id, proof, chain[-1])
    return {"record": record_id, **asdict(proof), "merkle_root": chain[-1]["merkle_root"], "holds": holds}


def _describe(root: Path, bundle: dict[str, Any], file: Path, signatures: list[Signature]) -> dict[str, Any]:
    relative = file.relative_to(root).as_posix()
    return {
        **{name: bundle.get(name) for name in ("number", "id", "previous", "merkle_root", "records", "commit", "plan")},
        "committed": History(root).git("log", "-1", "--no-textconv", "--format=%cI", "--", relative) or None,
        "signatures": [asdict(signature) for signature in signatures],
    }


def _committed(root: Path, study: str) -> str:
    commit = History(root).git("rev-parse", "HEAD")
    if commit is None:
        raise AssayError(str(root), "is no git repository with a commit", "commit the ledger, then sign")
    names = [f"{LEDGER.as_posix()}/{study}/*.jsonl", bundles.LOCK]
    changed = History(root).git("status", "--porcelain", "--untracked-files=all", "--", *names)
    if changed:
        raise AssayError(
            changed.split()[-1], f"is not as in commit {commit[:12]}", "`git add results/ledger dvc.lock`, commit, sign"
        )
    return commit
