"""What `make claims CLAIM=generators` makes of results, and its bounds."""

import json

import numpy as np
import pytest

from benchmarks import generators
from benchmarks.claims import generators as claim


def judged(key, found):
    [one] = [one for one in claim.claims() if one.key == key]
    return one.judge(found)


def write(directory, name, label, accuracies, loss=1.0):
    """A run's results, one for each seed."""
    cases = directory / name / "cases"
    cases.mkdir(parents=True, exist_ok=True)
    for seed, accuracy in enumerate(accuracies):
        evaluated = {
            "test_left_accuracy": [0.0, accuracy],
            "test_accuracy": [0.1, 0.9],
            "outer_valid_loss": [2.0, loss],
        }
        result = {"label": label, "seed": seed, "evaluated": evaluated}
        (cases / f"{label.replace(' ', '_')}{seed}.json").write_text(json.dumps(result))
    return directory / name


def leaving(tmp_path, vae, control, without=(0.1,) * 5):
    found = {}
    for samples in generators.SAMPLES:
        found[f"vae-{samples}"] = write(tmp_path, f"vae-{samples}", "with samples", vae)
        found[f"gaussian-{samples}"] = write(tmp_path, f"gaussian-{samples}", "with samples", control)
    write(tmp_path, "vae-10", "without samples", without)
    return generators.leaving(found)


def test_a_client_leaves(tmp_path):
    found = leaving(tmp_path / "a", (0.8, 0.82, 0.8, 0.8, 0.8), (0.7,) * 5)
    verdict = judged("leaving-digits", found)
    assert verdict.met
    assert "10 per class: 70.4 ± 0.9 points above none, 10.4 ± 0.9 above the control" in verdict.figure
    assert "the control is ahead nowhere" in verdict.figure
    assert not judged("leaving-digits", leaving(tmp_path / "b", (0.25,) * 5, (0.2,) * 5)).met
    few = leaving(tmp_path / "c", (0.8,) * 4, (0.7,) * 4, (0.1,) * 4)
    assert not judged("leaving-digits", few).met  # four seeds
    beaten = judged("leaving-digits", leaving(tmp_path / "d", (0.8, 0.82, 0.81, 0.8, 0.8), (0.9,) * 5))
    assert not beaten.met
    assert "the control is ahead at 10 per class, beyond 2 standard errors" in beaten.figure
    tied = judged("leaving-digits", leaving(tmp_path / "e", (0.8, 0.9, 0.7, 0.9, 0.7), (0.81,) * 5))
    assert tied.met
    assert "the control is ahead at 10 per class, 50 per class" in tied.figure


def quality(tmp_path, **changes):
    columns = ("kl", "spread", "cosine", "sample_cosine", "real_cosine", "nearest", "real_nearest")
    one = dict.fromkeys(columns, 0.8) | {"kl": 3.0} | changes
    lines = [",".join(("seed", *columns))]
    lines += [",".join((str(seed), *(str(one[name]) for name in columns))) for seed in range(5)]
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "quality.csv").write_text("\n".join(lines) + "\n")
    return generators.quality(tmp_path)


@pytest.mark.parametrize(("changes", "met"), [({}, True), ({"kl": 0.5}, False), ({"spread": 0.3}, False),
                                              ({"spread": 1.6}, False), ({"cosine": 0.6}, False)])  # fmt: skip
def test_the_quality_of_samples(changes, met, tmp_path):
    assert judged("quality-fsdd", quality(tmp_path, **changes)).met is met


def test_nesterov_is_tuned_by_validation(tmp_path):
    found = {}
    for index, name in enumerate(("vae-10", "lagg-set", *generators.rules("digits"))):
        for label, accuracy in (("with samples", 0.8), ("without samples", 0.2)):
            found[name] = write(tmp_path, name, label, (accuracy,) * 5, loss=1.0 / (1 + index))
    told = generators.aggregators(found)
    assert told["Nesterov"]["run"] == name == "nesterov-1-0.3"
    assert judged("aggregators-digits", told).met
    told["lagg-set"]["gained"]["mean"] = 10.0
    assert not judged("aggregators-digits", told).met


def test_counts_and_memory():
    found = generators.counts()
    assert found["disjoint"] == {"total": 150, "per_class": [10] * 15}
    assert judged("counts", found).met
    assert not judged("counts", found | {"shared": {"total": 50, "per_class": [10] * 5}}).met
    assert judged("memory", {"bound": 256, "files": 40.0, "arrays": 1700.0}).met
    assert not judged("memory", {"bound": 256, "files": 257.0, "arrays": 1700.0}).met


def test_every_run_of_a_figure_has_a_config_that_loads():
    from learned_aggregation.config.resolve import load_config

    for what in ("leaving", "quality", "aggregators", "gan"):
        for job in generators.jobs("digits", what).values():
            options = [
                f"feda2v.{name}={value}" for name, value in {**job.options, **generators.TRAINING}.items()
            ]
            path = generators.ROOT / f"config/feda2v/{job.config}.json"
            config = load_config(["--config", str(path), *job.flags, "--cfg-options", *options])
            assert config.feda2v["synthetic_samples_per_class"] in generators.SAMPLES
            assert config.num_inner_steps == generators.ROUNDS
            assert np.isclose(
                config.feda2v["generator_learning_rate"], generators.TRAINING["generator_learning_rate"]
            )
