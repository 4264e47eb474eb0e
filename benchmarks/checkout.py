"""Checkouts to compare: this one, and any revision of it in a temporary directory."""

import contextlib
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = "learned_aggregation"
BEFORE = "92bf4a2"
"""The last commit with the modules side by side in one folder: what later ones are measured against."""


def package_of(tree: Path) -> Path:
    """The package's folder in a checkout."""
    return tree / "src" / PACKAGE


def commit_of(revision: str, root: Path = ROOT) -> str:
    """The full hash that a revision stands for.

    Raises:
      SystemExit: there is no such revision, or no git.
    """
    command = ["git", "-C", str(root), "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"git: expected a commit in {root}, got {revision!r}. Name one that git log shows.")
    return done.stdout.strip()


def source_hash(tree: Path = ROOT) -> str:
    """Of all files of a checkout's package, committed or not: what a figure of the package depends on."""
    package, digest = package_of(tree), hashlib.sha256()
    for path in sorted(package.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            content = path.read_bytes()
            digest.update(f"{path.relative_to(package)} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def files_of(revision: str, root: Path = ROOT) -> Iterator[Path]:
    """The files of a revision in a temporary directory.

    Not a worktree of git: a killed process would leave its entry in the repository.
    """
    commit = commit_of(revision, root)
    archive = subprocess.run(["git", "-C", str(root), "archive", commit], check=True, stdout=subprocess.PIPE)
    with tempfile.TemporaryDirectory(prefix=f"{commit[:7]}-") as directory:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(directory, filter="data")
        yield Path(directory)


def environment(tree: Path, *more: Path) -> dict[str, str]:
    """This process's environment, with the package of `tree` found before an installed one."""
    path = os.pathsep.join(str(one) for one in (tree / "src", *more))
    return os.environ | {"PYTHONPATH": path}


def run_json(command: list[str], tree: Path, directory: Path | None = None) -> str:
    """The last line that a Python command prints, run in a checkout on its package; the rest goes to stderr.

    Args:
      command: after the interpreter, such as ["-m", "benchmarks.run"].
      directory: where it is run, and its benchmarks are those; None for the checkout itself.
    Raises:
      SystemExit: the command failed or printed nothing.
    """
    done = subprocess.run(
        [sys.executable, *command],
        cwd=directory or tree,
        env=environment(tree),
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        raise SystemExit(f"{' '.join(command)}: expected a result in {tree}, got status {done.returncode}.")
    return lines[-1]
