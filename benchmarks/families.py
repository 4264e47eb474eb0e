"""Every family of models on embedded data: 20 rounds of config/meta_test/families_*.py, with each of its entrants."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import row

CONFIGS = Path(__file__).parent.parent / "config" / "meta_test"
FAMILIES = ("mlp", "conv", "resnet18", "vit", "deit_tiny", "transformer")
ENTRANTS = ("fedavg", "learned")


def measure(name: str, repeats: int) -> list[dict[str, Any]]:
    """Seconds a round, memory, and the test loss before and after.

    Args:
      name: "families/{family}/{fedavg or learned}".
    """
    from learned_aggregation.devices.parallel import use_devices

    use_devices(1)
    import jax

    from learned_aggregation import build
    from learned_aggregation.config.resolve import load_config, with_settings
    from learned_aggregation.devices.parallel import job_mesh
    from learned_aggregation.meta_testing.program import Budget, Program

    _, family, entrant = name.split("/")
    config = load_config(["--config", str(CONFIGS / f"families_{family}.py")])
    own = {key: value for key, value in config.entrants[ENTRANTS.index(entrant)].items() if key != "label"}
    config = with_settings(replace(config, run_type="benchmark", entrants=[]), own)
    loaded = build.load_task(config, config.tasks[0])
    setting, shared = build.meta_test(config, loaded, build.learned_theta(config), ("test",))
    rounds = config.num_inner_steps
    program = Program(setting, Budget(rounds, rounds), job_mesh(1, 1))
    rates = {rate: np.array([value]) for rate, value in build.rates_of(config).items()}
    seconds = []
    for _ in range(1 + repeats):  # the first one compiles
        start = time.perf_counter()
        curves = program.run(shared, rates, np.zeros(1, int))
        seconds.append((time.perf_counter() - start) / rounds)
    params, _ = jax.eval_shape(loaded.task.init, jax.random.key(0))
    first, last = curves.evaluated["test_loss"][0]
    found = {
        "task": config.task,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "test_loss_before": float(first),
        "test_loss_after": float(last),
        "compile_s": rounds * (seconds[0] - min(seconds[1:])),
    }
    return [row(name, seconds[1:], devices=1, **found)]
