"""Validates RO-Crates without a network: `envs/rocrate/.venv/bin/python envs/rocrate/validate.py PROFILE CRATE...`

Prints JSON: for each crate, the messages of roc-validator per severity. The two JSON-LD contexts that a crate names are
served from here: contexts/ro-crate-1.1.jsonld is RO-Crate's own (CC0, docs/_specification/1.1/context.jsonld of
github.com/ResearchObject/ro-crate at 4b4f939c), the workflow-run terms are made from their names.
"""

from __future__ import annotations

import json
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from requests.adapters import BaseAdapter
from requests_cache import CachedSession
from rocrate_validator import services
from urllib3 import HTTPResponse

TERMS = "https://w3id.org/ro/terms/workflow-run"
NAMES = (
    "ContainerImage DockerImage ParameterConnection SIFImage connection containerImage environment md5 registry "
    "resourceUsage sha1 sha256 sha512 sourceParameter tag targetParameter"
)
CONTEXTS = {
    "https://w3id.org/ro/crate/1.1/context": (Path(__file__).parent / "contexts/ro-crate-1.1.jsonld").read_bytes(),
    f"{TERMS}/context": json.dumps({"@context": {name: f"{TERMS}#{name}" for name in NAMES.split()}}).encode(),
}


class Local(BaseAdapter):
    """Answers requests for the contexts from memory, and no others."""

    def send(self, request, **_):
        from requests.adapters import HTTPAdapter

        headers = {"Content-Type": "application/ld+json"}
        raw = HTTPResponse(BytesIO(CONTEXTS[request.url]), headers=headers, status=200, preload_content=False)
        return HTTPAdapter().build_response(request, raw)

    def close(self):
        """Nothing is open."""


def fill(cache: Path) -> None:
    """Put the contexts into the validator's HTTP cache; offline, it asks for nothing else."""
    session = CachedSession(str(cache), backend="sqlite", expire_after=-1)
    session.mount("https://", Local())
    for url in CONTEXTS:
        session.get(url).raise_for_status()
    session.close()


def messages(crate: str, profile: str, cache: Path) -> dict[str, list[str]]:
    """Messages per severity, each once, with the number of entities that it is about."""
    settings = services.ValidationSettings(
        rocrate_uri=crate,
        profile_identifier=profile,
        requirement_severity="RECOMMENDED",
        offline=True,
        cache_path=cache,
    )
    counts: dict[str, dict[str, int]] = {}
    for issue in services.validate(settings).get_issues():
        of = counts.setdefault(issue.severity.name, {})
        text = f"{issue.check.identifier}: {issue.message}"
        of[text] = of.get(text, 0) + 1
    return {name: [f"{text} ({n})" for text, n in sorted(of.items())] for name, of in sorted(counts.items())}


def main(profile: str, *crates: str) -> None:
    """Validate, and print."""
    with tempfile.TemporaryDirectory(prefix="sae-assay-") as folder:
        cache = Path(folder) / "http"
        fill(cache)
        print(json.dumps({crate: messages(crate, profile, cache) for crate in crates}))


if __name__ == "__main__":
    main(*sys.argv[1:])
