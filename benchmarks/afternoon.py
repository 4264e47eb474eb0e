"""A user's afternoon: `pip install .` into an empty environment, then nothing but the README, outside the checkout.

PYTHONPATH=src python -m benchmarks.afternoon [--steps 200]

The files in the README (blocks that begin with `# NAME.py`) are written into an empty folder and run there, by Python
and as a config. Its last line is JSON; the whole transcript goes to docs/claims/afternoon.txt. Everything else is in a
temporary folder, which is removed.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.checkout import ROOT
from learned_aggregation.atomic import write_atomic

TRANSCRIPT = ROOT / "docs" / "claims" / "afternoon.txt"
NEEDED = (
    "setup.py",
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "src",
    "checkpoints/pretrained",
)
"""What is installed from: a copy, so that the build leaves nothing in the checkout."""
LEFT = ("mine.npz", "mine.png", "runs/mine/report.html", "checkpoints/mine")
"""What the afternoon leaves, besides the comparison's and the benchmark's directory."""


class Step(NamedTuple):
    """A command as a user types it: its exit status, seconds, and what it printed, errors included."""

    command: str
    status: int
    seconds: float
    printed: str


def readme_files(readme: Path = ROOT / "README.md") -> dict[str, str]:
    """The files that the README has: name -> text."""
    return dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", readme.read_text(), re.DOTALL))


def run(command: Sequence[str], shown: str, folder: Path, environment: Path) -> Step:
    """Runs a command in the folder, with the environment's programs first on the path and nothing of ours."""
    kept = ("HOME", "LANG", "TMPDIR", "SSL_CERT_FILE", "PIP_INDEX_URL", "PIP_CONFIG_FILE", "UV_INDEX_URL")
    env = {name: os.environ[name] for name in kept if name in os.environ}
    env["PATH"] = f"{environment / 'bin'}:/usr/bin:/bin"
    env["MPLBACKEND"] = "agg"
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    print(f"$ {shown}\n{done.stdout}", flush=True)
    # What pip says of this machine's own settings is no part of the story.
    lines = [
        line for line in done.stdout.splitlines() if not line.startswith(("WARNING: Location", "[notice]"))
    ]
    return Step(shown, done.returncode, round(time.monotonic() - began, 1), "\n".join(lines) + "\n")


def copied(tree: Path, target: Path) -> Path:
    """What `pip install .` needs of a checkout."""
    for name in NEEDED:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if (tree / name).is_dir():
            shutil.copytree(
                tree / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
            )
        else:
            shutil.copy(tree / name, target / name)
    return target


def afternoon(steps: int, folder: Path) -> dict[str, Any]:
    """The whole of it in a folder; what was found."""
    environment, work = folder / "venv", folder / "work"
    checkout = copied(ROOT, folder / "checkout")
    work.mkdir()
    done = [
        run([sys.executable, "-m", "venv", str(environment)], "python -m venv venv", folder, environment),
        run(["pip", "install", "--quiet", "."], "pip install .", checkout, environment),
    ]
    shutil.rmtree(checkout)  # so that nothing of it can be used
    files = readme_files()
    for name, text in files.items():
        (work / name).write_text(text.replace("num_outer_steps=200", f"num_outer_steps={steps}"))
    done.append(run(["python", "afternoon.py"], "python afternoon.py", work, environment))
    command = ["learned-aggregation", "--config", "mine.py"]
    done.append(run(command, " ".join(command), work, environment))
    done.append(run(["pip", "list", "--format=freeze"], "pip list", work, environment))
    rows = re.findall(
        r"^(\S+): test loss (\d\.\d+) ± (\d\.\d+), right (\d\.\d+)$", done[2].printed, re.MULTILINE
    )
    transcript = "\n".join(
        f"$ {step.command}   # {step.seconds} s, exit status {step.status}\n{step.printed}"
        for step in done[:-1]
    )
    write_atomic(TRANSCRIPT, f"{transcript}\n# with {', '.join(_versions(done[-1].printed))}\n")
    return {
        "steps": steps,
        "files": sorted(files),
        "commands": {step.command: {"status": step.status, "seconds": step.seconds} for step in done},
        "table": {name: {"loss": float(loss), "right": float(right)} for name, loss, _, right in rows},
        "traceback": any("Traceback" in step.printed for step in done),
        "missing": [path for path in LEFT if not (work / path).exists()],
        "runs": len(list((work / "runs").glob("*/report.html"))),
    }


def _versions(listed: str) -> list[str]:
    return re.findall(
        r"^(?:jax|jaxlib|flax|numpy|optax|learned-aggregation)==\S+|^learned-aggregation @.*$",
        listed,
        re.MULTILINE,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=200, help="updates of theta")
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory(prefix="afternoon-") as folder:
        print(json.dumps(afternoon(steps, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
