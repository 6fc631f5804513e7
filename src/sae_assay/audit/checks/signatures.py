"""Signatures: the bundles of the records hold, are chained, and are signed by keys that the auditor trusts."""

from __future__ import annotations

from sae_assay.audit import reading, seal
from sae_assay.audit.context import Context
from sae_assay.audit.findings import Finding
from sae_assay.audit.trust import TRUSTED, read_trust
from sae_assay.errors import AssayError

NAME = "signatures"
CODES = ("STALE_BUNDLE", "UNSIGNED", "UNTRUSTED_SIGNER")
"""Findings about bundles alone, which do not keep anybody from signing the next one."""


def check(context: Context) -> list[Finding]:
    """Every bundle; who signed what goes into the report's notes."""
    options = context.options
    try:
        own = options.trusted_keys
        trust = read_trust(own if own is not None else reading.inside(context.root, TRUSTED))
        report = seal.check(context.root, context.study, trust, options.require_signed)
    except AssayError as error:
        if options.trusted_keys is not None and error.where == str(options.trusted_keys):
            raise
        context.judged(NAME, "bundles", "DIFFERS")
        return [Finding("UNSAFE_INPUT", error.where, "bundles that can be read", error.problem[:300], error.remedy)]
    for bundle in report.bundles:
        signers = [f"{s['signer'] or 'an unknown signer'} ({s['kind']})" for s in bundle["signatures"]]
        item = f"bundle {bundle['number']:04d}"
        context.fine(NAME, item, report.clean)
        context.notes.append(f"{item} is signed by {', '.join(signers) or 'nobody'}.")
    if not report.bundles:
        context.skipped(NAME, "bundles", "the study has none")
    return report.findings
