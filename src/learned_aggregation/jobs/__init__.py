"""What a command line can run: one file a run type, each tying config, build and run directory together."""

from learned_aggregation.config import Config
from learned_aggregation.registry import Registry

_HERE = "learned_aggregation.jobs"

JOBS = Registry(
    "run_type",
    {
        "meta-train": f"{_HERE}.meta_train:run",
        "benchmark": f"{_HERE}.benchmark:run",
        "sweep": f"{_HERE}.sweep:run",
        "compare": f"{_HERE}.compare:run",
    },
)


def run(config: Config, command: str) -> int:
    """Runs the config's job and returns the exit status.

    Args:
      command: the command line, recorded in the run's directory.
    """
    from learned_aggregation.parallel import use_devices

    use_devices(config.num_devices)
    return JOBS[config.run_type](config, command)
