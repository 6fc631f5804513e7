"""Bundles and their signatures: what must come out clean, and which code each edit must give."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.audit.conftest import COMMITTED, STUDY, artifact, git
from typer.testing import CliRunner

from sae_assay.audit import bundle as bundles
from sae_assay.audit import merkle, seal, signing
from sae_assay.audit.findings import Finding
from sae_assay.audit.trust import Trust, public_entry, read_trust
from sae_assay.cli import app
from sae_assay.errors import AssayError
from sae_assay.ledger.records import LEDGER, Ledger, line, with_id, write_ledger

needs_ssh = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
FOLDER = LEDGER / STUDY


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    signing.generate_key(path)
    return path


@pytest.fixture
def trust(key: Path, tmp_path: Path) -> Trust:
    return trusting(tmp_path, key)


def trusting(folder: Path, key: Path, ssh: tuple[str, ...] = ()) -> Trust:
    entry = public_entry(signing.load_key(key).public_key, "Ada")
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump({"ed25519": [entry], "ssh": list(ssh)}))
    return read_trust(file)


def sign(root: Path, key: Path, ssh: bool = False, verify: list[Finding] | None = None) -> dict:
    return seal.seal(root, STUDY, key, ssh, verify=lambda: verify or [])


def commit_bundle(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-qm", "bundle")


def codes(root: Path, trust: Trust, require: bool = True) -> list[str]:
    report = seal.check(root, STUDY, trust, require)
    return sorted(finding.code for finding in report.findings if not finding.note)


def notes(root: Path, trust: Trust, require: bool = False) -> list[str]:
    return sorted(f.code for f in seal.check(root, STUDY, trust, require).findings if f.note)


def edit(root: Path, name: str, old: str, new: str) -> None:
    file = root / FOLDER / name
    assert file.read_text().count(old) >= 1
    file.write_text(file.read_text().replace(old, new, 1))


# Round trip and null changes -------------------------------------------------------------------------------------------
def test_round_trip_names_the_signer_and_the_commit(root: Path, key: Path, trust: Trust) -> None:
    done = sign(root, key)
    commit_bundle(root)
    report = seal.check(root, STUDY, trust, require_signed=True)
    assert report.clean and report.findings == []
    [bundle] = report.bundles
    assert bundle["commit"] == git(root, "rev-parse", "HEAD~1")
    assert bundle["records"] == {"artifact": 3, "attempt": 1, "environment": 1, "plan": 1, "run": 3}
    assert bundle["committed"] == COMMITTED
    assert [(s["kind"], s["signer"]) for s in bundle["signatures"]] == [("ed25519", "Ada")]
    assert done["bundle"]["previous"] is None


def test_the_root_is_that_of_the_sorted_record_ids(root: Path, key: Path) -> None:
    ids = [json.loads(text)["id"] for file in (root / FOLDER).glob("*.jsonl") for text in file.read_text().splitlines()]
    expected = merkle.root([bytes.fromhex(name) for name in sorted(ids)])
    assert len(ids) == 9
    assert sign(root, key)["bundle"]["merkle_root"] == expected


def test_the_statement_is_in_toto_over_the_files_as_they_are(root: Path, key: Path) -> None:

    sign(root, key)
    envelope = json.loads((root / FOLDER / "bundles/0001.dsse.json").read_text())
    said = json.loads(base64.b64decode(envelope["payload"]))
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    subjects = {subject["name"]: subject["digest"]["sha256"] for subject in said["subject"]}
    assert set(subjects) == {
        *(f"{FOLDER}/{kind}s.jsonl" for kind in ("artifact", "attempt", "environment", "plan", "run")),
        "dvc.lock",
    }
    assert subjects == {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in subjects}


@pytest.mark.parametrize("change", ["reordered", "line endings", "touched", "blank line", "cloned"])
def test_a_null_change_is_clean(root: Path, key: Path, trust: Trust, tmp_path: Path, change: str) -> None:
    sign(root, key)
    commit_bundle(root)
    runs = root / FOLDER / "runs.jsonl"
    if change == "reordered":
        runs.write_text("".join(reversed(runs.read_text().splitlines(keepends=True))))
    if change == "line endings":
        for file in [*(root / FOLDER).glob("*.jsonl"), root / "dvc.lock", root / FOLDER / "bundles/0001.json"]:
            file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    if change == "touched":
        runs.touch()
    if change == "blank line":
        runs.write_text(runs.read_text() + "\n")
    if change == "cloned":
        git(tmp_path, "clone", "-q", str(root), str(tmp_path / "clone"))
        root = tmp_path / "clone"
    assert codes(root, trust) == []


def test_the_ledger_reader_and_writer_leave_bundles_alone(
    root: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(root, key)
    monkeypatch.chdir(root)
    records = list(Ledger(STUDY).records.values())
    assert len(records) == 9
    write_ledger(STUDY, records[:1])
    names = sorted(p.name for p in (root / FOLDER / "bundles").iterdir())
    assert names == ["0001.dsse.json", "0001.json"]


# Edits -----------------------------------------------------------------------------------------------------------------
def test_a_changed_record_is_named_and_makes_the_bundle_stale(root: Path, key: Path, trust: Trust) -> None:
    sign(root, key)
    edit(root, "runs.jsonl", '"seed":42', '"seed":43')
    assert codes(root, trust) == ["RECORD_ID_MISMATCH", "STALE_BUNDLE"]


def test_a_changed_record_whose_id_is_recomputed_makes_the_bundle_stale(root: Path, key: Path, trust: Trust) -> None:
    sign(root, key)
    runs = root / FOLDER / "runs.jsonl"
    first, *others = runs.read_text().splitlines(keepends=True)
    record = json.loads(first)
    content = {k: v for k, v in record.items() if k != "id"} | {"seeds": {"seed": 43}}
    runs.write_text("".join(sorted([line(with_id(content)), *others])))
    assert codes(root, trust) == ["STALE_BUNDLE"]


@pytest.mark.parametrize("change", ["removed", "doubled", "added"])
def test_a_removed_doubled_or_added_record_makes_the_bundle_stale(
    root: Path, key: Path, trust: Trust, change: str
) -> None:
    sign(root, key)
    file = root / FOLDER / "artifacts.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    new = {"removed": lines[1:], "doubled": [*lines, lines[0]], "added": [*lines, line(artifact("x", b"x"))]}
    file.write_text("".join(new[change]))
    assert codes(root, trust) == ["STALE_BUNDLE"]


def test_a_changed_dvc_lock_makes_the_bundle_stale(root: Path, key: Path, trust: Trust) -> None:
    sign(root, key)
    (root / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    assert codes(root, trust) == ["STALE_BUNDLE"]


def test_an_edited_bundle_is_found_with_and_without_its_id(root: Path, key: Path, trust: Trust) -> None:
    sign(root, key)
    file = root / FOLDER / "bundles/0001.json"
    bundle = json.loads(file.read_text())
    file.write_text(line(bundle | {"commit": "b" * 40}))
    assert codes(root, trust) == ["RECORD_ID_MISMATCH", "UNSIGNED", "UNTRUSTED_SIGNER"]
    content = {k: v for k, v in bundle.items() if k != "id"} | {"commit": "b" * 40}
    file.write_text(line(with_id(content)))
    assert codes(root, trust) == ["UNSIGNED", "UNTRUSTED_SIGNER"]


# Signers ---------------------------------------------------------------------------------------------------------------
def test_an_unknown_signer_is_a_finding(root: Path, key: Path) -> None:
    sign(root, key)
    assert codes(root, Trust(), require=False) == ["UNTRUSTED_SIGNER"]
    assert codes(root, Trust()) == ["UNSIGNED", "UNTRUSTED_SIGNER"]


def test_no_signature_is_a_note_and_a_finding_on_request(root: Path, key: Path, trust: Trust) -> None:
    assert (codes(root, trust, require=False), notes(root, trust)) == ([], ["UNSIGNED"])
    assert codes(root, trust) == ["UNSIGNED"]
    sign(root, key)
    (root / FOLDER / "bundles/0001.dsse.json").unlink()
    assert (codes(root, trust, require=False), notes(root, trust)) == ([], ["UNSIGNED"])
    assert codes(root, trust) == ["UNSIGNED"]


def test_beside_a_trusted_signature_an_unknown_signer_is_a_note(
    root: Path, key: Path, trust: Trust, tmp_path: Path
) -> None:
    signing.generate_key(tmp_path / "other.pem")
    sign(root, key)
    again = sign(root, tmp_path / "other.pem")
    assert again["bundle"]["number"] == 1
    assert codes(root, trust) == []
    assert notes(root, trust) == ["UNTRUSTED_SIGNER"]


def test_a_stranger_cannot_sign_in_a_trusted_key_s_name(root: Path, key: Path, trust: Trust, tmp_path: Path) -> None:
    signing.generate_key(tmp_path / "other.pem")
    sign(root, tmp_path / "other.pem")
    file = root / FOLDER / "bundles/0001.dsse.json"
    other, mine = (signing.load_key(p).public_key.keyid for p in (tmp_path / "other.pem", key))
    file.write_text(file.read_text().replace(other, mine))
    assert codes(root, trust) == ["UNSIGNED", "UNTRUSTED_SIGNER"]


def test_a_signature_of_another_bundle_does_not_count(root: Path, key: Path, trust: Trust) -> None:
    sign(root, key)
    edit(root, "attempts.jsonl", "disk full", "no memory")
    fix_ids(root, "attempts.jsonl")
    git(root, "commit", "-qam", "more")
    folder = root / FOLDER / "bundles"
    assert sign(root, key)["bundle"]["number"] == 2
    assert codes(root, trust) == []
    shutil.copy(folder / "0001.dsse.json", folder / "0002.dsse.json")
    assert codes(root, trust) == ["UNSIGNED", "UNTRUSTED_SIGNER"]


def fix_ids(root: Path, name: str) -> None:
    file = root / FOLDER / name
    records = [json.loads(text) for text in file.read_text().splitlines()]
    file.write_text("".join(line(with_id({k: v for k, v in r.items() if k != "id"})) for r in records))


# Chain -----------------------------------------------------------------------------------------------------------------
@pytest.fixture
def three(root: Path, key: Path) -> Path:
    for reason in ("one", "two", "three"):
        file = root / FOLDER / "attempts.jsonl"
        file.write_text(line(with_id({"type": "attempt", "schema": 1, "rule": "table", "reason": reason})))
        commit_bundle(root)
        sign(root, key)
    return root


def test_bundles_are_chained(three: Path, trust: Trust) -> None:
    chain = bundles.read_bundles(three, STUDY)
    assert [bundle["number"] for bundle in chain] == [1, 2, 3]
    assert [bundle["previous"] for bundle in chain] == [None, chain[0]["id"], chain[1]["id"]]
    assert codes(three, trust) == []


def test_a_bundle_taken_out_of_the_chain_breaks_it(three: Path, trust: Trust) -> None:
    for file in (three / FOLDER / "bundles").glob("0002.*"):
        file.unlink()
    assert "GRAPH_INVALID" in codes(three, trust)


def test_a_rewritten_first_bundle_breaks_the_chain(three: Path, trust: Trust) -> None:
    file = three / FOLDER / "bundles/0001.json"
    content = {k: v for k, v in json.loads(file.read_text()).items() if k != "id"} | {"merkle_root": "0" * 64}
    file.write_text(line(with_id(content)))
    assert codes(three, trust) == ["GRAPH_INVALID", "UNSIGNED", "UNTRUSTED_SIGNER"]


def test_bundles_of_another_study_do_not_count(root: Path, key: Path, trust: Trust) -> None:
    sign(root, key)
    other = root / LEDGER / "other"
    shutil.copytree(root / FOLDER, other)
    report = seal.check(root, "other", trust, True)
    assert "GRAPH_INVALID" in {finding.code for finding in report.findings}


# Proofs, versions, refusals --------------------------------------------------------------------------------------------
def test_every_record_is_proved_to_be_in_the_bundle_and_an_altered_one_is_not(root: Path, key: Path) -> None:
    bundle = sign(root, key)["bundle"]
    contents = bundles.read_contents(root, STUDY)
    for name, _ in contents.ids:
        proof = bundles.prove(name, contents)
        assert bundles.check_proof(name, proof, bundle)
        altered = ("0" if name[0] != "0" else "1") + name[1:]
        assert not bundles.check_proof(altered, proof, bundle)
    with pytest.raises(AssayError, match="no record of this ledger"):
        bundles.prove("0" * 64, contents)


def test_an_older_bundle_over_older_records_stays_readable(root: Path, key: Path, trust: Trust) -> None:
    (root / FOLDER / "notes.jsonl").write_text(line(with_id({"type": "note", "schema": 0, "text": "of old"})))
    contents = bundles.read_contents(root, STUDY)
    old = with_id(
        {
            "type": "bundle",
            "schema": 0,
            "study": STUDY,
            "number": 1,
            "previous": None,
            "merkle_root": merkle.root(contents.leaves),
            "records": contents.counts,
            "words": "a field that is no longer written",
        }
    )
    folder = root / FOLDER / "bundles"
    folder.mkdir()
    (folder / "0001.json").write_text(line(old))
    assert (codes(root, trust, require=False), notes(root, trust)) == ([], ["UNSIGNED"])
    (root / FOLDER / "notes.jsonl").unlink()
    assert codes(root, trust, require=False) == ["STALE_BUNDLE"]


def test_a_bundle_of_a_later_version_is_refused(root: Path, key: Path, trust: Trust) -> None:
    sign(root, key)
    edit(root, "bundles/0001.json", '"schema":1', '"schema":99')
    with pytest.raises(AssayError, match="update sae-assay"):
        codes(root, trust)


def test_nothing_is_signed_unless_it_verifies(root: Path, key: Path) -> None:
    finding = Finding("CELL_DISPLAY_MISMATCH", "x", "1", "2", "look")
    with pytest.raises(AssayError, match=r"CELL_DISPLAY_MISMATCH.*nothing is signed unless it verifies"):
        sign(root, key, verify=[finding])
    assert not (root / FOLDER / "bundles").exists()
    sign(root, key, verify=[Finding("UNSIGNED", "x", None, None, "look", note=True)])


def test_what_is_not_committed_is_not_signed(root: Path, key: Path) -> None:
    edit(root, "attempts.jsonl", "disk full", "no memory")
    fix_ids(root, "attempts.jsonl")
    with pytest.raises(AssayError, match="is not as in commit"):
        sign(root, key)


@pytest.mark.parametrize("text", ['{"id":"a","id":"b"}', '{"type":"run","x":NaN}', "[]", "{", '{"id":"a"}'])
def test_a_line_that_is_no_record_is_refused(root: Path, trust: Trust, text: str) -> None:
    file = root / FOLDER / "attempts.jsonl"
    file.write_text(text + "\n")
    with pytest.raises(AssayError):
        codes(root, trust)


def test_keys_are_private(key: Path, root: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    with pytest.raises(AssayError, match="cannot be made"):
        signing.generate_key(key)
    with pytest.raises(AssayError, match="git working tree"):
        signing.generate_key(root / "key.pem")
    key.chmod(0o644)
    with pytest.raises(AssayError, match="read by others"):
        sign(root, key)


def test_the_private_key_is_in_nothing_that_is_written(root: Path, key: Path) -> None:
    secret = "".join(key.read_text().splitlines()[1:-1])
    sign(root, key)
    for file in (root / FOLDER / "bundles").iterdir():
        assert secret not in file.read_text() and str(key.parent) not in file.read_text()


# ssh-keygen ------------------------------------------------------------------------------------------------------------
@pytest.fixture
def ssh_key(tmp_path: Path) -> Path:
    path = tmp_path / "ssh"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)
    return path


@needs_ssh
def test_an_ssh_signature_counts_if_its_key_is_trusted(root: Path, key: Path, ssh_key: Path, tmp_path: Path) -> None:
    done = sign(root, ssh_key, ssh=True)
    public = " ".join(ssh_key.with_suffix(".pub").read_text().split()[:2])
    assert codes(root, Trust(), require=False) == ["UNTRUSTED_SIGNER"]
    mine = trusting(tmp_path, key, (f"ada@example.org {public}",))
    assert codes(root, mine) == []
    [bundle] = seal.check(root, STUDY, mine, True).bundles
    assert [(s["kind"], s["signer"]) for s in bundle["signatures"]] == [("ssh", "ada@example.org")]
    # The auditor needs nothing of ours: the signature is over the bundle's file as it is.
    (tmp_path / "allowed").write_text(f"ada@example.org {public}\n")
    plain = ["ssh-keygen", "-Y", "verify", "-n", "sae-assay", "-I", "ada@example.org", "-f", tmp_path / "allowed"]
    text = Path(done["file"]).read_text()
    checked = subprocess.run([*plain, "-s", done["signature"]], input=text, text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr


@needs_ssh
def test_an_ssh_signature_of_another_bundle_or_namespace_does_not_count(
    root: Path, ssh_key: Path, tmp_path: Path, key: Path
) -> None:
    done = sign(root, ssh_key, ssh=True)
    public = " ".join(ssh_key.with_suffix(".pub").read_text().split()[:2])
    mine = trusting(tmp_path, key, (f"ada@example.org {public}",))
    file, text = Path(done["signature"]), Path(done["file"]).read_text()
    good = file.read_text()
    for namespace, content in (("file", text), ("sae-assay", text + "\n")):
        made = subprocess.run(
            ["ssh-keygen", "-Y", "sign", "-f", ssh_key, "-n", namespace], input=content, text=True, capture_output=True
        )
        file.write_text(made.stdout)
        assert codes(root, mine) == ["UNSIGNED", "UNTRUSTED_SIGNER"]
    file.write_text(good)
    assert codes(root, mine) == []


# Strangers' files ------------------------------------------------------------------------------------------------------
ODD = [None, True, -1, 1e300, 10**40, "", "\ud800", [], {}, [[1]], {"a": 1}, "id"]


@pytest.mark.parametrize("name", ["bundles/0001.json", "bundles/0001.dsse.json", "plans.jsonl"])
def test_odd_values_anywhere_are_refused_or_found(root: Path, key: Path, trust: Trust, name: str) -> None:
    sign(root, key)
    file = root / FOLDER / name
    good = json.loads(file.read_text())
    for field in good:
        for value in [odd for odd in ODD if json.dumps(odd) != json.dumps(good[field])]:
            file.write_text(json.dumps(good | {field: value}))
            try:
                assert codes(root, trust) != [], (field, value)
            except AssayError:
                continue
    file.write_text(json.dumps(good))
    assert codes(root, trust) == []


@pytest.mark.parametrize("text", ["[" * 100_000, "1e999", '{"a":' * 100_000, "\x00", "null", '"text"'])
def test_a_file_that_is_no_bundle_is_refused(root: Path, key: Path, trust: Trust, text: str) -> None:
    sign(root, key)
    for name in ("0001.json", "0001.dsse.json"):
        file = root / FOLDER / "bundles" / name
        good = file.read_text()
        file.write_text(text)
        with pytest.raises(AssayError):
            codes(root, trust)
        file.write_text(good)


def test_a_link_out_of_the_tree_is_not_read(root: Path, key: Path, trust: Trust, tmp_path: Path) -> None:
    sign(root, key)
    file = root / FOLDER / "bundles/0001.dsse.json"
    file.rename(tmp_path / "outside.json")
    file.symlink_to(tmp_path / "outside.json")
    with pytest.raises(AssayError, match="is a link"):
        codes(root, trust)


@pytest.mark.parametrize(
    "text",
    [
        "ed25519: 3",
        "ed25519: [{keyid: 1, name: a, public: b}]",
        "ssh: ['a\\nb']\nssh2: [",
        "[]",
        "ssh: [[a]]",
        "ed25519: [{keyid: x, name: a, public: b}, {keyid: x, name: b, public: c}]",
    ],
)
def test_a_list_of_trusted_keys_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.yaml").write_text(text)
    if text == "[]":
        assert read_trust(tmp_path / "keys.yaml") == Trust()
        return
    with pytest.raises(AssayError):
        read_trust(tmp_path / "keys.yaml")


# Command line ----------------------------------------------------------------------------------------------------------
def test_the_commands_from_key_to_check(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The made-up ledger has no results that could be verified; tests/audit/verify signs one that has.
    monkeypatch.setattr("sae_assay.audit.verify.findings_before_signing", lambda root, study: [])
    runner, key, mine = CliRunner(), tmp_path / "k.pem", tmp_path / "mine.yaml"
    made = runner.invoke(app, ["bundle", "keygen", str(key), "--name", "Ada"])
    assert made.exit_code == 0
    mine.write_text("ed25519:\n" + made.output)
    at = ["--root", str(root)]
    assert runner.invoke(app, ["bundle", "check", *at]).exit_code == 0
    assert runner.invoke(app, ["bundle", "check", *at, "--require-signed"]).exit_code == 1
    assert runner.invoke(app, ["bundle", "sign", *at], env={"SAE_ASSAY_KEY": str(key)}).exit_code == 0
    assert runner.invoke(app, ["bundle", "check", *at]).exit_code == 1
    checked = runner.invoke(app, ["bundle", "check", *at, "--trusted-keys", str(mine), "--require-signed", "--json"])
    assert checked.exit_code == 0, checked.output
    assert json.loads(checked.output)["bundles"][0]["signatures"][0]["signer"] == "Ada"
    record = json.loads((root / FOLDER / "plans.jsonl").read_text())["id"]
    assert runner.invoke(app, ["bundle", "prove", record, *at]).exit_code == 0
    assert runner.invoke(app, ["bundle", "check", *at, "--trusted-keys", str(tmp_path / "none")]).exit_code == 2


def test_the_project_s_own_trusted_keys_are_readable() -> None:
    assert read_trust(Path(__file__).parents[2] / "trusted-keys.yaml") == Trust()
