"""The command line. Every command has --json for machines; exit 0: fine, 1: findings, 2: could not run."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from sae_assay.errors import AssayError
from sae_assay.ledger.environment import PROFILES

os.environ.update(PROFILES["portable"])  # `trace` computes in this process; numpy reads these when it loads

app = typer.Typer(
    help=(
        "Can a sparse-autoencoder benchmark be trusted? The workflow computes (`snakemake`); these commands explain, record "
        "and check what it made."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
StudyOption = Annotated[
    str,
    typer.Option(
        "--study", help="A study's file, or the name of one under studies/; as for `snakemake --config study=`."
    ),
]
DEFAULT_STUDY = "config.yaml"


bundle_app = typer.Typer(
    help="Bundles: one hash over all records of a study, chained, signed; and the check of who signed what.",
    no_args_is_help=True,
)
export_app = typer.Typer(help="The recorded study in other tools' formats.", no_args_is_help=True)
app.add_typer(bundle_app, name="bundle")
app.add_typer(export_app, name="export")
RootOption = Annotated[Path, typer.Option("--root", help="The tree to look at; none of its code is run.")]
RequireSigned = Annotated[
    bool, typer.Option("--require-signed", help="A bundle without a trusted signature is a finding.")
]
TrustedKeys = Annotated[
    Path | None, typer.Option("--trusted-keys", help="Your own list; by default the tree's trusted-keys.yaml.")
]


def command(function: Callable[..., Any], to: typer.Typer = app, name: str | None = None) -> Callable[..., Any]:
    """Register a command whose errors are one line and exit code 2, without a traceback."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except AssayError as error:
            typer.echo(f"sae-assay: {error}", err=True)
            raise typer.Exit(2) from None

    return to.command(name=name or function.__name__.replace("_", "-"))(guarded)


def _print(value: Any, as_json: bool, text: str) -> None:
    typer.echo(json.dumps(value, sort_keys=True) if as_json else text)


@command
def metrics(as_json: Json = False) -> None:
    """List every known metric: name, hyper-parameter, direction, what it needs, whether it can run here and why not.

    Example: sae-assay metrics --json | jq '.metrics[] | select(.can_run | not) | .reason'
    """
    from sae_assay.metrics.api import listing

    known = listing()
    lines = [
        f"{m['name']:24} {m['hyper_parameter'] or '-':8} {'higher' if m['higher_is_better'] else 'lower':6} is better   "
        f"{'can run' if m['can_run'] else 'cannot run: ' + m['reason']}{', given ' + m['given'] if m['given'] else ''}"
        for m in known
    ]
    _print({"metrics": known}, as_json, "\n".join(lines))


@command
def why(
    path: Annotated[Path, typer.Argument(help="An artifact, such as results/table/default/scores.parquet.")],
    study: StudyOption = DEFAULT_STUDY,
    as_json: Json = False,
) -> None:
    """Say which input, setting, module or package made an artifact stale, and along which way.

    Exit 0: it is current. Exit 1: it is not, for the reasons printed.

    Example: sae-assay why results/report/default/report.html
    """
    from sae_assay.ledger.publish import planned_jobs
    from sae_assay.ledger.trail import explain
    from sae_assay.study import Study

    name = Study.load(study).study
    planned_jobs(name, study)
    causes = explain(name, path.as_posix())
    text = (
        "\n".join([f"{path} is not current:", *(f"  {cause}" for cause in causes)]) if causes else f"{path} is current"
    )
    _print([cause.as_dict() for cause in causes], as_json, text)
    raise typer.Exit(1 if causes else 0)


@command
def status(study: StudyOption = DEFAULT_STUDY, as_json: Json = False) -> None:
    """Count the jobs that are done, planned and failed, and guess the time that is left from the jobs done so far.

    Exit 0: nothing is left to do. Exit 1: jobs are planned.
    """
    from sae_assay.ledger.publish import planned_jobs
    from sae_assay.ledger.trail import progress
    from sae_assay.study import Study

    name = Study.load(study).study
    found = progress(name, planned_jobs(name, study))
    left = "unknown" if found["seconds_left"] is None else f"{found['seconds_left'] / 60:.1f} CPU minutes"
    planned = ", ".join(f"{count} {rule}" for rule, count in found["planned"].items()) or "none"
    lines = [f"done     {found['done']} jobs", f"planned  {planned}", f"left     {left}"]
    lines += [f"failed   {one['rule']} {one['wildcards']}: {one['reason']}" for one in found["failed"]]
    _print(found, as_json, "\n".join(lines))
    raise typer.Exit(1 if found["planned"] else 0)


@command
def record(
    study: StudyOption = DEFAULT_STUDY,
    push: Annotated[bool, typer.Option("--push", help="Push to the DVC remote too.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Delete the study's files that no record names.")] = False,
    as_json: Json = False,
) -> None:
    """Record results that are up to date: ledger (git), dvc.yaml and dvc.lock (git), DVC cache.

    Refuses while Snakemake has anything left to do, so that nothing stale is ever blessed. Then commit with git:
    git add results/ledger dvc.yaml dvc.lock data/remote && git commit
    """
    from sae_assay.ledger import publish
    from sae_assay.plan import Plan
    from sae_assay.study import Study

    done = publish.record(Plan(Study.load(study)), study, prune=prune, push=push)
    text = f"recorded {done['runs']} runs of study {done['study']}" + (" and pushed them" if push else "")
    _print(done, as_json, text)


@command
def compare_recorded(study: StudyOption = DEFAULT_STUDY, as_json: Json = False) -> None:
    """Did this machine reproduce the recorded scores? Bitwise, within the declared tolerances, or not.

    The recorded files are pulled into a temporary clone; nothing here is touched. Exit 1: scores differ.
    """
    from sae_assay.ledger.compare import compare_scores, load_tolerances, recorded_checkout
    from sae_assay.study import Study

    name = Study.load(study).study
    with recorded_checkout(name) as recorded:
        result = compare_scores(recorded, Path(), name, load_tolerances())
    lines = [f"{result.verdict}: {result.equal_files} of {result.files} score files are equal byte for byte"]
    if result.not_comparable:
        lines.append(f"not comparable between retrained SAEs: {', '.join(sorted(result.not_comparable))}")
    lines += [f"{finding['item']}: {finding['found']}. What to do: {finding['remedy']}." for finding in result.findings]
    _print(result.as_dict(), as_json, "\n".join(lines))
    raise typer.Exit(1 if result.findings else 0)


@command
def findings(study: StudyOption = DEFAULT_STUDY, as_json: Json = False) -> None:
    """Name the report's path and its main findings, one per lens."""
    from sae_assay.ledger.trail import report_findings
    from sae_assay.study import Study

    path, found = report_findings(Study.load(study).study)
    _print(
        {"report": path, "findings": found}, as_json, "\n".join([*(f"- {text}" for text in found), f"Report: {path}"])
    )


@command
def verify(
    study: StudyOption = DEFAULT_STUDY,
    root: Annotated[Path, typer.Option("--root", help="The tree to audit; it is read as data.")] = Path(),
    depth: Annotated[
        int,
        typer.Option(
            "--depth", min=1, max=3, help="1: statistics; 2: also all bytes; 3: also sampled jobs, run again."
        ),
    ] = 1,
    sample: Annotated[
        float, typer.Option("--sample", min=0.0, max=1.0, help="Share of the jobs that depth 3 runs again.")
    ] = 0.05,
    seed: Annotated[int, typer.Option("--seed", help="Chooses the sample, together with the ledger's digest.")] = 0,
    remote: Annotated[bool, typer.Option("--remote", help="At depth 2 and 3, hash the bundled remote too.")] = False,
    cores: Annotated[int, typer.Option("--cores", min=1, help="For the jobs of depth 3.")] = 1,
    require_signed: RequireSigned = False,
    trusted_keys: TrustedKeys = None,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help="Write a one-page HTML certificate.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check every recorded number: records, graph, plan, code, environment, bytes, table, statistics, charts and cells.

    The tree is data: depths 1 and 2 run none of its code, its SQL included. Depth 3 runs its workflow for a random share of
    the jobs, in a temporary clone, and prints the chance to meet a forged one. Exit 0: clean. 1: findings. 2: could not run.

    Example: sae-assay verify --depth 2 --certificate audit.html

    A stranger's clone, with your own installation: sae-assay verify --root ../their-clone
    """
    from sae_assay.audit import certificate as page
    from sae_assay.audit.context import Options
    from sae_assay.audit.progress import told
    from sae_assay.audit.verify import verify as run

    options = Options(depth, sample, seed, remote, cores, trusted_keys, require_signed)
    with told() as progress:
        report = run(root, study, options, progress)
    if certificate is not None:
        page.write(report, certificate)
    _print(report.as_dict(), as_json, report.text())
    raise typer.Exit(1 if report.failed else 0)


@command
def trace(
    number: Annotated[str, typer.Argument(help="A cell's id, chart:NAME, or a number as the report shows it.")],
    rows: Annotated[
        bool, typer.Option("--rows", help="Print all witness rows as CSV (with --json: in the JSON).")
    ] = False,
    study: StudyOption = DEFAULT_STUDY,
    as_json: Json = False,
) -> None:
    """Follow a number of the report to its query, score rows, jobs, code and inputs, and say how to recompute it.

    Exit 1: the report shows no such number, or several (they are listed with their ids). A number that begins with a plain
    minus sign goes behind `--`.

    Example: sae-assay trace scorecard:mini:tpp:D1:in:estimate
    """
    from sae_assay.audit.trace import Report, Unknown, for_machines
    from sae_assay.audit.trace import trace as follow
    from sae_assay.audit.words import describe
    from sae_assay.study import Study

    try:
        found = follow(Report.read(Study.load(study).study), number, study)
    except Unknown as unknown:
        lines = [f"{unknown.message}:" if unknown.candidates else unknown.message]
        lines += [f"  {name}  {shown}" for name, shown in unknown.candidates]
        listed = [{"id": name, "shown": shown} for name, shown in unknown.candidates]
        _print({"error": unknown.message, "candidates": listed}, as_json, "\n".join(lines))
        raise typer.Exit(1) from None
    if rows and not as_json:
        text = found["witness"]["table"].write_csv() if "witness" in found else describe(found)
        typer.echo(text, nl="witness" not in found)
        return
    _print(for_machines(found, rows), as_json, "" if as_json else describe(found))


def _study_name(study: str, root: Path) -> str:
    """The name of a study of the tree at `root`."""
    from sae_assay.audit.verify import load_study

    return load_study(root, study).study


@functools.partial(command, to=bundle_app, name="keygen")
def bundle_keygen(
    file: Annotated[Path, typer.Argument(help="A new file outside any repository; only you can read it.")],
    name: Annotated[str, typer.Option("--name", help="Who holds the key, as shown when it has signed.")] = "me",
    as_json: Json = False,
) -> None:
    """Make an ed25519 key, and print the entry by which others trust it (trusted-keys.yaml).

    Example: sae-assay bundle keygen ~/sae-assay.pem --name "Ada Auditor"
    """
    from sae_assay.audit.signing import generate_key
    from sae_assay.audit.trust import public_entry

    entry = public_entry(generate_key(file).public_key, name)
    head, *tail = [f"{key}: {json.dumps(value)}" for key, value in entry.items()]
    _print(entry, as_json, "\n".join([f"  - {head}", *(f"    {text}" for text in tail)]))


@functools.partial(command, to=bundle_app, name="sign")
def bundle_sign(
    key: Annotated[
        Path, typer.Option("--key", envvar="SAE_ASSAY_KEY", help="Private key: ed25519 PEM, or OpenSSH with --ssh.")
    ],
    ssh: Annotated[bool, typer.Option("--ssh", help="Sign with `ssh-keygen -Y`.")] = False,
    study: StudyOption = DEFAULT_STUDY,
    root: RootOption = Path(),
    as_json: Json = False,
) -> None:
    """Bundle the committed records of a study and sign the bundle; nothing is signed unless it verifies at depth 2.

    Writes results/ledger/STUDY/bundles/NNNN.json and its signature; commit both. Nothing changed: one more signature.

    Example: sae-assay bundle sign --key ~/.ssh/id_ed25519 --ssh
    """
    from sae_assay.audit.seal import seal
    from sae_assay.audit.verify import findings_before_signing

    name = _study_name(study, root)
    done = seal(root, name, key, ssh, verify=lambda: findings_before_signing(root, study))
    count = sum(done["bundle"]["records"].values())
    _print(done, as_json, f"signed bundle {done['bundle']['number']:04d} over {count} records: {done['signature']}")


@functools.partial(command, to=bundle_app, name="check")
def bundle_check(
    require_signed: RequireSigned = False,
    trusted_keys: TrustedKeys = None,
    study: StudyOption = DEFAULT_STUDY,
    root: RootOption = Path(),
    as_json: Json = False,
) -> None:
    """Recompute the bundles' hashes over the records, their chain and signatures; say who signed what, and when.

    Example: sae-assay bundle check --require-signed --trusted-keys ~/trusted-keys.yaml
    """
    from sae_assay.audit.seal import check, report_lines
    from sae_assay.audit.trust import TRUSTED, read_trust

    trust_file = trusted_keys or root / TRUSTED
    if trusted_keys and not trusted_keys.exists():
        raise AssayError(str(trusted_keys), "no such file", "name a file like trusted-keys.yaml")
    report = check(root, _study_name(study, root), read_trust(trust_file), require_signed)
    _print(report.as_dict() | {"trusted_keys": str(trust_file)}, as_json, "\n".join(report_lines(report, trust_file)))
    raise typer.Exit(0 if report.clean else 1)


@functools.partial(command, to=bundle_app, name="prove")
def bundle_prove(
    record_id: Annotated[str, typer.Argument(help="A record's id: 64 hex digits.")],
    study: StudyOption = DEFAULT_STUDY,
    root: RootOption = Path(),
    as_json: Json = False,
) -> None:
    """Print the hashes by which anyone can see that a record is in the last bundle, without the other records.

    Exit 1: there is a proof for the records here, but it does not lead to the last bundle's root.

    Example: sae-assay bundle prove 934c1c22b261c333f72b31e44638760e5ad677967922d9f8a379591988d0088b --json
    """
    from sae_assay.audit.seal import proof_of

    found = proof_of(root, _study_name(study, root), record_id)
    text = "\n".join([f"entry {found['index']} of {found['size']}", *found["path"], f"root {found['merkle_root']}"])
    _print(found, as_json, text)
    raise typer.Exit(0 if found["holds"] else 1)


@functools.partial(command, to=export_app, name="ro-crate")
def export_ro_crate(
    out: Annotated[Path, typer.Argument(help="A new .zip file, or a new folder.")],
    with_files: Annotated[
        bool, typer.Option("--with-files", help="Put the recorded files that are on disk into the crate.")
    ] = False,
    study: StudyOption = DEFAULT_STUDY,
    root: RootOption = Path(),
    as_json: Json = False,
) -> None:
    """Write a study's records as a Workflow Run RO-Crate 0.5; the records stay the source. Equal records: equal bytes.

    Example: sae-assay export ro-crate /tmp/default.zip --with-files
    """
    from sae_assay.audit.rocrate import export

    done = export(root, _study_name(study, root), study, out, with_files)
    _print(done, as_json, f"{done['out']}: {done['actions']} runs, {done['files']} files, {done['included']} included")


if __name__ == "__main__":
    app()
