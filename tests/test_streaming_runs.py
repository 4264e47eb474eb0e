"""Runs on a stream: they go on in mid-stream, bit for bit, and their windows are an argument of one program."""

import contextlib
import itertools
import signal
import threading

import jax
import numpy as np
import pytest
import tiny_run
from tiny_run import files_below, meta_train, metrics, saved_state

from learned_aggregation import build, cli
from learned_aggregation.config.resolve import Config
from learned_aggregation.data import streaming
from learned_aggregation.data.streaming import Stream, windows_of
from learned_aggregation.devices.parallel import everywhere, job_mesh
from learned_aggregation.meta_testing.program import Budget, Program, Shared
from learned_aggregation.problems.inner_problem import RoundSizes

pytest.importorskip("grain")

FLAGS = ["--stream=True", "--stream_window=200", "--stream_fresh=60", "--augment=crop,flip"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The directory of a streamed, augmented run of 6 outer steps that nothing stopped."""
    directory = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as monkeypatch:
        tiny_run.run_here(monkeypatch, directory)
        assert meta_train(*FLAGS, "--num_outer_steps=6") == 0
    return directory


def _reader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "grain" in thread.name]


def _assert_as_undisturbed(undisturbed, directory) -> None:
    assert saved_state(directory) == saved_state(undisturbed)
    assert metrics(directory) == metrics(undisturbed)
    name = "checkpoints/tiny/global_step6.safetensors"
    assert files_below(directory)[name] == files_below(undisturbed)[name]


@pytest.mark.parametrize("send", [signal.SIGTERM, None], ids=["SIGTERM", "end"])
def test_a_run_goes_on_in_mid_stream_bit_for_bit(undisturbed, tmp_path, monkeypatch, send):
    tiny_run.run_here(monkeypatch, tmp_path)
    with monkeypatch.context() as patch:
        steps = []

        def training(config):
            made = tiny_run.training_of(config)

            def outer_step(state, datas):
                steps.append(1)
                if len(steps) == 3 and send:
                    signal.raise_signal(send)
                return made.outer_step(state, datas)

            return made._replace(outer_step=outer_step)

        patch.setattr(build, "meta_training", training)
        status = meta_train(*FLAGS, f"--num_outer_steps={6 if send else 3}")
    assert status == (143 if send else 0)
    assert (tmp_path / "checkpoints/tiny/latest").read_text().strip() == "global_step3"
    for thread in _reader_threads():
        thread.join(10)
    assert not _reader_threads()
    assert meta_train(*FLAGS, "--num_outer_steps=6", "--from_checkpoint", "--stream_threads=4") == 0
    _assert_as_undisturbed(undisturbed, tmp_path)


def test_the_stream_decides_what_is_learned(undisturbed, tmp_path, monkeypatch):
    """Else the test above would show nothing."""
    tiny_run.run_here(monkeypatch, tmp_path)
    assert meta_train(*FLAGS[:-1], "--num_outer_steps=6") == 0
    assert saved_state(tmp_path) != saved_state(undisturbed)


@contextlib.contextmanager
def _compilations():
    """The list of programs compiled in the context, as it grows."""
    found = []

    def listen(event, duration, **_):
        if "backend_compile" in event:
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_windows_are_an_argument_of_one_compiled_step():
    config = Config(
        **tiny_run.SIZES, stream=True, stream_window=200, stream_fresh=60, meta_loss_split="inner_valid"
    )
    training = build.meta_training(config)
    assert isinstance(training.datas[0]["train"], Stream)
    mesh, state = job_mesh(config.num_tasks), training.state
    compiled = []
    with streaming.windows_of_all(training.datas, everywhere(mesh)) as windows:
        for _ in range(3):
            window = next(windows)
            with jax.transfer_guard("disallow"), _compilations() as found:
                state, _ = training.outer_step(state, window)
            compiled.append(len(found))
    assert compiled == [1, 0, 0]
    assert jax.tree.map(np.shape, window[0]["train"].examples) == {"image": (200, 8, 8, 1), "label": (200,)}


def test_meta_test_of_a_stream():
    """Segments get the windows in order, and every run gets the same."""
    config = Config(
        task="mlp4_digits_8",
        optimizer="fedavg",
        stream=True,
        stream_window=200,
        stream_fresh=60,
        num_grads=2,
        num_local_steps=1,
        local_batch_size=4,
        eval_examples=40,
    )
    loaded = build.load_task(config, config.tasks[0])
    setting, shared = build.meta_test(config, loaded, (), ["test"])
    assert isinstance(shared.train, Stream)
    assert shared.evaluation["test"][0]["label"].shape == (1, 40)
    program = Program(setting, Budget(6, 2), job_mesh(2, 1))
    assert setting.sizes == RoundSizes(2, 1, 4)

    def losses(data) -> np.ndarray:
        return program.run(Shared((), data, shared.evaluation), build_rates(config), np.arange(2)).train_loss

    whole = losses(shared.train)
    assert np.array_equal(whole, losses(shared.train))
    with windows_of(shared.train, everywhere(job_mesh(2, 1))) as windows:
        first, second, _ = itertools.islice(windows, 3)
        assert np.array_equal(losses(first)[:, :2], whole[:, :2])
        assert not np.array_equal(losses(first)[:, 2:], whole[:, 2:])
        assert not np.array_equal(losses(second)[:, :2], whole[:, :2])


def build_rates(config: Config) -> dict[str, np.ndarray]:
    return {name: np.full(2, value) for name, value in build.rates_of(config).items()}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--stream_fresh=300", "--stream_window=200"],
            "--stream_fresh: expected at most stream_window, 200",
        ),
        (["--augment=flip", "--stream=False"], "--stream: expected True or None with augment, got False"),
        (["--augment=rotate"], "--augment: expected one of crop, flip, got 'rotate'"),
    ],
)
def test_settings_that_do_not_fit(flags, message, capsys, tmp_path, monkeypatch):
    tiny_run.run_here(monkeypatch, tmp_path)
    assert cli.main([*tiny_run.FLAGS, *flags]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")
