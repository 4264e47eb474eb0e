"""What a command line can run: one file a run type, each tying config, build and run directory together."""

from learned_aggregation.config.resolve import Config
from learned_aggregation.errors import UserError
from learned_aggregation.jobs.finished import Finished
from learned_aggregation.registry import Registry

_HERE = "learned_aggregation.jobs"

JOBS = Registry(
    "run_type",
    {
        "meta-train": f"{_HERE}.meta_train:run",
        "benchmark": f"{_HERE}.benchmark:run",
        "sweep": f"{_HERE}.sweep:run",
        "compare": f"{_HERE}.compare:run",
        "split": f"{_HERE}.split:run",
        "siammae": f"{_HERE}.siammae:run",
        "feda2v": f"{_HERE}.feda2v:run",
    },
)


def run(config: Config, command: str) -> int:
    """Runs the config's job and returns the exit status: see `finish`."""
    return finish(config, command).status


def finish(config: Config, command: str) -> Finished:
    """Runs the config's job to its end, or to a signal.

    Args:
      command: the command line, recorded in the run's directory.
    """
    import jax

    from learned_aggregation.data.cache import cache_dir
    from learned_aggregation.devices import distributed
    from learned_aggregation.devices.numerics import plain_numerics
    from learned_aggregation.devices.parallel import check_platform, use_compilation_cache, use_devices

    asked = None
    if config.coordinator_address is not None:
        asked = distributed.Processes(config.coordinator_address, config.num_processes, config.process_id)
    use_devices(config.num_devices)
    if config.compilation_cache:
        use_compilation_cache(cache_dir(config.cache_dir) / "compiled")
    distributed.start(asked)
    check_platform()
    if config.run_type != "meta-train" and not distributed.is_alone():
        raise UserError(
            f"run_type: expected 'meta-train' in a run of several processes, got {config.run_type!r}. "
            "Run it in one process."
        )
    try:
        debugged = (jax.disable_jit(config.jax_disable_jit), jax.debug_nans(config.jax_debug_nans))
        with plain_numerics(), debugged[0], debugged[1]:
            return JOBS[config.run_type](config, command)
    except jax.errors.JaxRuntimeError as error:  # while a program is built, or its first arrays are made
        raise distributed.runtime_error(error) from error
