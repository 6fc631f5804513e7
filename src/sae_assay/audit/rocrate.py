"""`export ro-crate`: a study's records as a Workflow Run RO-Crate. The records stay the source; equal records, equal bytes."""

from __future__ import annotations

import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rocrate.model.contextentity import ContextEntity
from rocrate.rocrate import ROCrate

from sae_assay.audit.bundle import LOCK, read_records, read_text
from sae_assay.audit.crate import WORKFLOW, Crate, Entity, Pair, Records, encoding_format, ledger_files, ref
from sae_assay.audit.reading import parse_yaml
from sae_assay.audit.tree import History
from sae_assay.errors import AssayError
from sae_assay.ledger.files import hash_file
from sae_assay.ledger.records import LEDGER

VERSION = "1.1"  # what the Workflow Run RO-Crate 0.5 profiles extend
TERMS = "https://w3id.org/ro/terms/workflow-run/context"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/provenance/0.5": ("Provenance Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
CITATION = "CITATION.cff"
ALWAYS = (WORKFLOW, "README.md", "LICENSE", CITATION, LOCK)
METADATA = "ro-crate-metadata.json"
ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def export(root: Path, study: str, config: str, out: Path, with_files: bool = False) -> dict[str, Any]:
    """Write a study's crate.

    Args:
        root: the tree with the records.
        config: the study's file, or the name of one under studies/.
        out: a new .zip file, or a new folder.
        with_files: include the recorded files that are on disk with the recorded content; else all by reference.

    Returns:
        What was written, for --json.

    Raises:
        AssayError: `out` exists, or the tree lacks records or a file that a crate must have.
    """
    if out.exists():
        raise AssayError(str(out), "exists", "name a new .zip file or folder")
    records = Records(record for _, record in read_records(root, study))
    on_disk = _on_disk(root, records.pairs) if with_files else set()
    source = config if config.endswith((".yaml", ".yml")) else f"studies/{config}.yaml"
    crate = Crate(records, study, source, on_disk)
    fixed = [name for name in [*ALWAYS, source] if _safe(root, name)]
    if WORKFLOW not in fixed or source not in fixed:
        raise AssayError(f"{WORKFLOW} or {source}", "is missing", "export from the root of the project")
    fixed += [path.relative_to(root).as_posix() for path in sorted(root.glob(ledger_files(study)))]
    metadata = _metadata(root, crate, fixed)
    payload = sorted({*fixed, *(path for path, _ in on_disk)})
    _write(out, root, metadata, payload)
    return {
        "out": str(out),
        "actions": len(records.runs) + len(records.attempts),
        "files": len(records.pairs),
        "included": len(payload),
        "profiles": sorted(PROFILES),
    }


def _safe(root: Path, name: str) -> bool:
    """Whether a path is a file within the tree, reached over no link."""
    path = root / name
    return path.resolve() == root.resolve() / name and path.is_file()


def _on_disk(root: Path, pairs: set[Pair]) -> set[Pair]:
    return {(path, sha) for path, sha in pairs if _safe(root, path) and hash_file(root / path).sha256 == sha}


# Metadata --------------------------------------------------------------------------------------------------------------
def _metadata(root: Path, crate: Crate, fixed: list[str]) -> bytes:
    """ro-crate-metadata.json: entities sorted by id."""
    made = ROCrate(version=VERSION)
    made.metadata.extra_contexts.append(TERMS)
    entities = [*(_fixed_file(root, name) for name in fixed), *crate.entities(), *_about(root)]
    merged: dict[str, Entity] = {}
    for entity in entities:
        merged[entity["@id"]] = merged.get(entity["@id"], {}) | entity
    _link_examples(merged)
    for name, entity in merged.items():
        made.add(ContextEntity(made, name, properties={k: v for k, v in entity.items() if k != "@id"}))
    files = [name for name, entity in merged.items() if "File" in entity["@type"]]
    for key, value in _root(root, crate, files, merged).items():
        made.root_dataset[key] = value
    made.metadata["conformsTo"] = ref(f"https://w3id.org/ro/crate/{VERSION}", list(PROFILES)[-1])
    document = made.metadata.generate()
    document["@graph"] = sorted(map(_compact, document["@graph"]), key=lambda entity: entity["@id"])
    return (json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _compact(entity: Entity) -> Entity:
    """Lists of one as that one, as RO-Crate 1.1 recommends; empty lists left out."""
    short = {key: value[0] if isinstance(value, list) and len(value) == 1 else value for key, value in entity.items()}
    return {key: value for key, value in short.items() if value != []}


def _root(root: Path, crate: Crate, files: list[str], entities: dict[str, Entity]) -> dict[str, Any]:
    citation = _citation(root)
    return {
        "name": f"sae-assay: study {crate.study}",
        "description": (
            f"The recorded runs of study {crate.study}: {len(crate.records.runs)} jobs, what each read and wrote by "
            f"SHA-256, derived from the records in {LEDGER.as_posix()}/{crate.study}"
        ),
        "datePublished": _date(root, crate),
        "license": {"@id": f"https://spdx.org/licenses/{citation['license']}"},
        "author": ref(*(_author_id(author) for author in citation["authors"])),
        "publisher": ref(*(_author_id(author) for author in citation["authors"] if "name" in author)),
        "conformsTo": ref(*PROFILES),
        "mainEntity": {"@id": WORKFLOW},
        "mentions": ref(*crate.actions),
        "hasPart": ref(*files),
    }


def _about(root: Path) -> list[Entity]:
    """Profiles, licence and authors."""
    citation = _citation(root)
    profiles = [
        {"@id": name, "@type": "CreativeWork", "name": title, "version": version}
        for name, (title, version) in PROFILES.items()
    ]
    licence = {
        "@id": f"https://spdx.org/licenses/{citation['license']}",
        "@type": "CreativeWork",
        "name": citation["license"],
        "description": f"SPDX licence {citation['license']}",
    }
    authors = [
        {"@id": _author_id(author), "@type": "Organization" if "name" in author else "Person", "name": _name(author)}
        for author in citation["authors"]
    ]
    return [*profiles, licence, *authors]


def _fixed_file(root: Path, name: str) -> Entity:
    """A file of git that is always in the crate."""
    found = hash_file(root / name)
    entity: Entity = {
        "@id": quote(name),
        "@type": "File",
        "name": name,
        "sha256": found.sha256,
        "contentSize": str(found.size),
        "encodingFormat": encoding_format(name) if Path(name).suffix else "text/plain",
    }
    return entity | ({"about": {"@id": "./"}} if name == "README.md" else {})


def _link_examples(entities: dict[str, Entity]) -> None:
    """Files say of which parameter they are an example, as parameters name their examples."""
    for name, entity in entities.items():
        if entity["@type"] == "FormalParameter":
            for example in entity["workExample"]:
                entities[example["@id"]]["exampleOfWork"] = {"@id": name}


def _citation(root: Path) -> dict[str, Any]:
    try:
        citation = parse_yaml(read_text(root / CITATION), CITATION)
        authors = [{k: v for k, v in author.items() if isinstance(v, str)} for author in citation["authors"]]
    except (AttributeError, KeyError, TypeError):
        authors = []
    if not authors or not isinstance(citation.get("license"), str):
        raise AssayError(CITATION, "names no license and authors", "restore it from git")
    return {"license": citation["license"], "authors": authors}


def _name(author: dict[str, Any]) -> str:
    return str(author.get("name") or f"{author.get('given-names', '')} {author.get('family-names', '')}".strip())


def _author_id(author: dict[str, Any]) -> str:
    return str(author.get("orcid") or f"#author/{quote(_name(author))}")


def _date(root: Path, crate: Crate) -> str:
    """When the records were last committed; outside git, when the last job ended."""
    committed = History(root).git("log", "-1", "--format=%ct", "--", f"{LEDGER.as_posix()}/{crate.study}")
    if committed:
        return datetime.fromtimestamp(int(committed), UTC).isoformat()
    return max(run["start"] for run in crate.records.runs).replace("Z", "+00:00")


# Bytes -----------------------------------------------------------------------------------------------------------------
def _write(out: Path, root: Path, metadata: bytes, payload: list[str]) -> None:
    if out.suffix != ".zip":
        for name in payload:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes((root / name).read_bytes())
        (out / METADATA).write_bytes(metadata)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out, "w") as archive:
        for name in [METADATA, *payload]:
            entry = zipfile.ZipInfo(name, ZIP_TIME)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, metadata if name == METADATA else (root / name).read_bytes())
