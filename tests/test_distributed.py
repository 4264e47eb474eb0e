"""One run over several devices and processes gives what one device gives."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from learned_aggregation.devices.distributed import from_environment, start, under_slurm
from learned_aggregation.errors import UserError

ROOT = Path(__file__).parent.parent
TINY = (
    "--task mlp4_digits_8 --optimizer fedlagg --hidden_size 4 --num_grads 2 --num_local_steps 1 --local_batch_size 4 "
    "--num_tasks 8 --truncation_schedule_min_length 5 --num_inner_steps 20 --cfg-options truncation_length=5"
)


def launch(cwd, flags, **environment):
    command = [sys.executable, str(ROOT / "src/main.py"), *TINY.split(), *flags.split()]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment}
    return subprocess.Popen(command, cwd=cwd, env=env, stderr=subprocess.PIPE, text=True)


def theta(cwd, name, step):
    from safetensors.numpy import load_file

    return load_file(cwd / f"checkpoints/{name}/global_step{step}.safetensors")


def assert_same_theta(cwd, name, other, step):
    """Up to rounding: the reduction over the inner problems is the only thing that may differ."""
    found, expected = theta(cwd, name, step), theta(cwd, other, step)
    assert list(found) == list(expected)
    for leaf, value in expected.items():
        np.testing.assert_allclose(found[leaf], value, rtol=1e-4, atol=1e-6)


def gradient_norms(cwd, name):
    with open(cwd / f"runs/{name}/metrics.csv") as file:
        return [float(row["grad_norm"]) for row in csv.DictReader(file)]


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def two_processes(cwd, flags):
    """Two processes on the loopback address: one told by flags, the other by the environment."""
    address = free_address()
    first = launch(cwd, f"{flags} --coordinator_address {address} --num_processes 2 --process_id 0")
    second = launch(cwd, flags, JAX_COORDINATOR_ADDRESS=address, JAX_NUM_PROCESSES="2", JAX_PROCESS_ID="1")
    return first, second


def test_devices_and_processes_do_not_change_the_result(tmp_path):
    steps = "--num_outer_steps 3"
    for devices in (1, 2, 8):
        run = launch(tmp_path, f"{steps} --name d{devices} --num_devices {devices}")
        assert run.wait(timeout=300) == 0, run.stderr.read()
    pair = two_processes(tmp_path, f"{steps} --name pair --num_devices 2")
    for process in pair:
        assert process.wait(timeout=300) == 0, process.stderr.read()
    for name in ("d2", "d8", "pair"):
        assert_same_theta(tmp_path, name, "d1", 3)
    np.testing.assert_allclose(gradient_norms(tmp_path, "d8"), gradient_norms(tmp_path, "d1"), rtol=1e-3)
    # A checkpoint of one device count goes on at another.
    run = launch(tmp_path, "--num_outer_steps 5 --name pair --from_checkpoint --num_devices 1")
    assert run.wait(timeout=300) == 0, run.stderr.read()
    run = launch(tmp_path, "--num_outer_steps 5 --name d1 --from_checkpoint --num_devices 4")
    assert run.wait(timeout=300) == 0, run.stderr.read()
    assert_same_theta(tmp_path, "pair", "d1", 5)


@pytest.mark.parametrize("estimator", [pytest.param("pes", marks=pytest.mark.slow), "truncated_backprop"])
def test_the_clients_of_few_problems_are_divided_over_the_devices(estimator, tmp_path):
    """Two problems of four clients on 2 x 4 devices; the norms, as Adam hides a gradient's size."""
    steps = f"--num_outer_steps 3 --num_tasks 2 --num_grads 4 --estimator {estimator} --log_every 1"
    for devices in (1, 8):
        run = launch(tmp_path, f"{steps} --name d{devices} --num_devices {devices}")
        assert run.wait(timeout=300) == 0, run.stderr.read()
    pair = two_processes(tmp_path, f"{steps} --name pair --num_devices 4")
    for process in pair:
        assert process.wait(timeout=300) == 0, process.stderr.read()
    expected = gradient_norms(tmp_path, "d1")
    assert len(expected) == 3
    for name in ("d8", "pair"):
        assert_same_theta(tmp_path, name, "d1", 3)
        np.testing.assert_allclose(gradient_norms(tmp_path, name), expected, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_the_run_and_a_restart_resumes(tmp_path, lost):
    flags = "--num_outer_steps 3000 --name pair --save_iter 5 --num_devices 2"
    pair = two_processes(tmp_path, flags)
    latest = tmp_path / "checkpoints/pair/latest"
    deadline = time.monotonic() + 120
    while not (latest.is_file() and latest.read_text() not in ("global_step0", "")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    pair[lost].send_signal(signal.SIGKILL)
    _, message = pair[1 - lost].communicate(timeout=200)
    assert pair[1 - lost].returncode != 0
    assert "--from_checkpoint" in message or "coordination" in message.lower()
    step = int(latest.read_text().removeprefix("global_step"))
    resumed = two_processes(tmp_path, f"{flags} --num_outer_steps {step + 5} --from_checkpoint")
    for process in resumed:
        assert process.wait(timeout=300) == 0, process.stderr.read()
    assert latest.read_text() == f"global_step{step + 5}"


def test_the_environment_names_the_processes(monkeypatch):
    for name in (
        "JAX_COORDINATOR_ADDRESS",
        "JAX_NUM_PROCESSES",
        "JAX_PROCESS_ID",
        "SLURM_JOB_ID",
        "SLURM_NTASKS",
    ):
        monkeypatch.delenv(name, raising=False)
    assert from_environment() is None
    assert not under_slurm()
    start(None)  # one process: nothing to join
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match="Set all three or none"):
        from_environment()
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.setenv("JAX_PROCESS_ID", "5")
    with pytest.raises(UserError, match="from 0 to 1, got 5"):
        start(None)
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert under_slurm()
