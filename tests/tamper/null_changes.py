"""Changes that change nothing: all of them must be clean."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.tamper.forgery import LEDGER, Forgery, score_file
from tests.tamper.ledger import audited_by
from tests.tamper.mutation import Invocation, null_change

UNKNOWN_USER = 54321


@null_change("Nothing")
def nothing(forgery: Forgery) -> None:
    pass


@null_change("Every file touched")
def touched(forgery: Forgery) -> None:
    for file in forgery.path.rglob("*"):
        if file.is_file() and ".git" not in file.parts:
            os.utime(file, (1, 1))


@null_change("Every line of the ledger in reverse order (told as a note)")
def reordered(forgery: Forgery) -> None:
    for file in forgery.file(LEDGER).glob("*.jsonl"):
        file.write_text("".join(reversed(file.read_text().splitlines(keepends=True))))


@null_change("A record's keys in another order, with spaces (told as a note)")
def spaced(forgery: Forgery) -> None:
    forgery.replace(f"{LEDGER}/runs.jsonl", '{"code":', '{ "code" : ')


@null_change("A fresh clone, and dvc pull")
def cloned(forgery: Forgery) -> None:
    clone(forgery)


def clone(forgery: Forgery, *options: str) -> None:
    """Let the auditor look at a clone that pulled from the bundled remote."""
    target = type(forgery).__mro__[1](forgery.outside / "clone")
    forgery.run("git", "clone", "-q", *options, str(forgery.path), str(target.path))
    target.dvc("pull", "-q")
    forgery.root = target.path


@null_change("A clone with the line endings of Windows (core.autocrlf)")
def line_endings(forgery: Forgery) -> None:
    clone(forgery, "-c", "core.autocrlf=true")
    assert b"\r\n" in (forgery.root / LEDGER / "runs.jsonl").read_bytes()


@null_change("A linked worktree of the repository")
def worktree(forgery: Forgery) -> None:
    forgery.git("worktree", "add", "-q", "--detach", str(forgery.outside / "tree"))
    for folder in ("results", "data"):
        shutil.copytree(forgery.file(folder), forgery.outside / "tree" / folder, dirs_exist_ok=True)
    forgery.root = forgery.outside / "tree"


@null_change("Another path")
def moved(forgery: Forgery) -> None:
    forgery.root = forgery.path.rename(forgery.outside / "elsewhere")


@null_change("A path with spaces, umlauts and quotes")
def odd_path(forgery: Forgery) -> None:
    forgery.root = forgery.path.rename(forgery.outside / "Öffentliche Prüfung 'ß' \"1\"")


@null_change("A folder that is a symbolic link to the clone")
def linked_folder(forgery: Forgery) -> None:
    forgery.root = forgery.outside / "link"
    forgery.root.symlink_to(forgery.path, target_is_directory=True)


@null_change("Every file a hard link to another copy's")
def hard_links(forgery: Forgery) -> None:
    shutil.copytree(forgery.path, forgery.outside / "copy", symlinks=True, copy_function=os.link)
    forgery.root = forgery.outside / "copy"


@null_change("Files of DVC as hard links into its cache")
def cache_of_hard_links(forgery: Forgery) -> None:
    forgery.dvc("config", "--local", "cache.type", "hardlink")
    forgery.dvc("checkout", "-q", "--relink")
    assert forgery.file(score_file()).stat().st_nlink > 1


@null_change("DVC's cache emptied")
def cache_emptied(forgery: Forgery) -> None:
    shutil.rmtree(forgery.file(".dvc/cache"))


@null_change("Another owner of all files")
def another_owner(forgery: Forgery) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can change the owner of files")
    for file in [forgery.path, *forgery.path.rglob("*")]:
        os.chown(file, UNKNOWN_USER, UNKNOWN_USER, follow_symlinks=False)


@null_change("Another user, who may only read")
def another_user(forgery: Forgery) -> Invocation:
    permit(forgery.path, 0o444, 0o555)
    # Folders above the tree, and Python itself, may be closed to others: this user may read all, and write nothing.
    may_read = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    before = ("setpriv", f"--reuid={UNKNOWN_USER}", f"--regid={UNKNOWN_USER}", "--clear-groups", *may_read)
    if shutil.which("setpriv") is None or subprocess.run([*before, "true"], check=False).returncode:
        pytest.skip("this process may not become another user (setpriv)")
    return Invocation({"HOME": "/nonexistent"}, before=before)


@null_change("Nothing writable")
def read_only(forgery: Forgery) -> None:
    permit(forgery.path, 0o444, 0o555)


@null_change("Everything writable and executable by everybody")
def permissive(forgery: Forgery) -> None:
    permit(forgery.path, 0o777, 0o777)


def permit(path: Path, files: int, folders: int) -> None:
    """Set the permission bits of a tree."""
    for file in [path, *path.rglob("*")]:
        if not file.is_symlink():
            file.chmod(folders if file.is_dir() else files)


@null_change("LC_ALL=C")
def locale_c(forgery: Forgery) -> Invocation:
    return Invocation({"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})


@null_change("LC_ALL=de_DE.UTF-8, where a comma separates decimals")
def locale_german(forgery: Forgery) -> Invocation:
    return Invocation({"LC_ALL": "de_DE.UTF-8", "LANG": "de_DE.UTF-8"})


@null_change("LC_ALL=tr_TR.UTF-8, where I has no dot")
def locale_turkish(forgery: Forgery) -> Invocation:
    return Invocation({"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"})


@null_change("TZ=Pacific/Kiritimati, and twelve hours to the west")
def time_zone(forgery: Forgery) -> Invocation:
    return Invocation({"TZ": "Pacific/Kiritimati"})


@null_change("Another PYTHONHASHSEED")
def hash_seed(forgery: Forgery) -> Invocation:
    return Invocation({"PYTHONHASHSEED": "4711"})


@null_change("Another number of threads")
def threads(forgery: Forgery) -> Invocation:
    return Invocation({"POLARS_MAX_THREADS": "5", "OMP_NUM_THREADS": "5", "RAYON_NUM_THREADS": "5"})


@null_change("Called from a folder inside the tree")
def inside(forgery: Forgery) -> Invocation:
    return Invocation(cwd=forgery.file("results/scores"))


@null_change("git gc: history packed into one file")
def packed(forgery: Forgery) -> None:
    forgery.git("gc", "-q", "--aggressive", "--prune=now")
    forgery.git("pack-refs", "--all")


@null_change("Another branch, a tag, a stash, a later commit of a note")
def later_commits(forgery: Forgery) -> None:
    forgery.git("checkout", "-q", "-b", "later")
    forgery.write("notes.md", "Nothing about the study.\n")
    forgery.git("add", "notes.md")
    forgery.git("commit", "-qm", "note")
    forgery.git("tag", "v1")
    forgery.write("notes.md", "Some more.\n")
    forgery.git("stash", "-q")


@null_change("Files that are not the study's: notes, a log, compiled Python, a hidden file beside the results")
def extra_files(forgery: Forgery) -> None:
    for name in ("todo.txt", "logs/tiny/more.log", "src/sae_assay/__pycache__/x.pyc", "results/scores/tiny/.DS_Store"):
        forgery.file(name).parent.mkdir(parents=True, exist_ok=True)
        forgery.write(name, b"\x00")


@null_change("A deleted score file, made again by its job and recorded")
def made_again(forgery: Forgery) -> None:
    forgery.file(score_file()).unlink()
    forgery.rerun()


@null_change("A job run from a tree with an uncommitted comment in its Snakefile, recorded so (told as a note)")
def dirty_and_said_so(forgery: Forgery) -> None:
    forgery.forget()
    forgery.write("Snakefile", forgery.file("Snakefile").read_text() + "# later\n")
    shutil.rmtree(forgery.file("results/report"))
    forgery.edit_runs(lambda run: run.update(dirty=True), "report")
    forgery.rerun()


@null_change("A bundle signed by a key that the auditor trusts, and a signature asked for")
def signed_by_a_trusted_key(forgery: Forgery) -> None:
    key = forgery.key("author")
    forgery.sign(key)
    audited_by(forgery, key)
