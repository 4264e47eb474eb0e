"""The Flower example as a simulation and as a deployment of separate processes, on 127.0.0.1."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("flwr")

APP = Path(__file__).parent.parent / "examples" / "flower_digits"
BIN = Path(sys.executable).parent
SOURCE = Path(__file__).parent.parent / "src"
ROUND_LINE = re.compile(r"^round (\d+): loss (\S+), accuracy (\S+)$", re.MULTILINE)
PATIENCE = 400  # seconds: far more than a run needs, far less than forever

pytestmark = pytest.mark.slow


class Machine:
    """Flower's processes of one test, told from all others by their FLWR_HOME."""

    def __init__(self, home: Path):
        self.home = home
        home.mkdir()
        self.env = {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",  # Flower starts its helpers by name
            "PYTHONPATH": str(SOURCE),
            "FLWR_HOME": str(home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "JAX_PLATFORMS": "cpu",
        }
        self.started = []

    def start(self, name: str, *arguments: object) -> subprocess.Popen:
        with open(self.home / f"{len(self.started)}-{name}.log", "w") as log:
            command = [str(BIN / name), *map(str, arguments)]
            process = subprocess.Popen(command, env=self.env, stdout=log, stderr=subprocess.STDOUT)
        self.started.append(process)
        return process

    def superlink(self, *arguments: object) -> int:
        """A SuperLink and its port, once it answers; `flwr run` is told of it."""
        port = free_port()
        link = ("--insecure", "--host", "127.0.0.1", "--port", port)
        process = self.start(
            "flower-superlink", *link, "--disable-runtime-dependency-installation", *arguments
        )
        until(lambda: answers(port) or process.poll() is not None, "SuperLink answers")
        (self.home / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
        )
        return port

    def run(self, run_config: str, *arguments: object) -> str:
        """What `flwr run` printed."""
        command = [BIN / "flwr", "run", APP, "--stream", "--run-config", run_config, *arguments]
        done = subprocess.run(
            [str(word) for word in command],
            env=self.env, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    def processes(self) -> list[int]:
        mark = f"FLWR_HOME={self.home}\0".encode()
        return [
            int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if mark in content(path)
        ]

    def stop(self) -> None:
        for process in reversed(self.started):
            process.terminate()
        for process in self.started:
            process.wait(60)

    def logs(self) -> str:
        return "\n".join(f"{path.name}:\n{path.read_text()}" for path in sorted(self.home.glob("*.log")))


def content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # ended meanwhile, or another user's
        return b""


@contextmanager
def machine(home: Path):
    """Asserts that everything ends when it is asked to, and ends it in any case."""
    flower = Machine(home)
    try:
        yield flower
        flower.stop()
        until(lambda: not flower.processes(), "all processes end")
    except BaseException:
        print(flower.logs())
        raise
    finally:
        for process in flower.processes():
            os.kill(process, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def until(condition, what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.2)


def check(printed: str, rounds: range) -> None:
    """The rounds were run, in order, and the held-out loss fell."""
    found = ROUND_LINE.findall(printed)
    assert [int(number) for number, _, _ in found] == list(rounds), printed
    losses = [float(loss) for _, loss, _ in found]
    assert losses[-1] < losses[0] - 0.1, printed
    assert "left out: " not in printed, printed


def test_simulation(tmp_path):
    with machine(tmp_path / "flower") as flower:
        flower.superlink("--simulation")
        federation = "num-supernodes=4 client-resources-num-cpus=1"
        printed = flower.run("num-server-rounds=3 min-clients=4", "--federation-config", federation)
    check(printed, range(4))
    assert "4 replies used, 0 left out" in printed


def test_deployment_with_a_server_that_goes_on(tmp_path):
    """SuperLink and two SuperNodes as processes of their own; a second run takes up the first one's state."""
    with machine(tmp_path / "flower") as flower:
        port = flower.superlink()
        for client in range(2):
            flower.start(
                "flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}",
                "--host", "127.0.0.1", "--port", free_port(),
                "--node-config", f"partition-id={client} num-partitions=2",
            )  # fmt: skip
        state = f'state-file="{tmp_path / "state.safetensors"}"'
        first = flower.run(f"num-server-rounds=2 {state}")
        second = flower.run(f"num-server-rounds=3 fraction-evaluate=0.0 {state}")
        assert all(process.poll() is None for process in flower.started), "a node died"
    check(first, range(3))
    numbers = [int(number) for number, _, _ in ROUND_LINE.findall(second)]
    assert numbers == [2, 3], second
    assert ROUND_LINE.findall(first)[-1] == ROUND_LINE.findall(second)[0], "the state was not taken up"
    assert "2 replies used, 0 left out" in second
