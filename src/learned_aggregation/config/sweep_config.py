"""The structure of `sweep_config` (wandb's own format), of `entrants` and of `problems`; nothing is run here.

What a task measures is not known here: a sweep's metric is checked for its form, and its name once the task is made.

`check_setting(where, name, value) -> value` says whether a setting may be swept and takes the value.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from learned_aggregation.config.config_file import load_file
from learned_aggregation.config.kinds import choice, file_name, is_number, mapping, refuse, unknown, whole
from learned_aggregation.errors import UserError
from learned_aggregation.registry import nearest

CheckSetting = Callable[[str, str, Any], Any]

LOSSES = ("outer_valid_loss", "train_loss")
"""Metrics that every task has; lower is better."""

DISTRIBUTIONS = ("uniform", "log_uniform_values", "int_uniform", "q_uniform", "q_log_uniform_values")
"""wandb's distributions between `min` and `max` that are supported; the q_ ones round to multiples of `q`."""

MAX_POINTS = 10_000
"""Points of a sweep, or of a method's grid. Each is checked, and run with every seed."""

_NEEDED = {"method": ("label", "optimizer"), "problem": ("label",)}
_KEYS = ("method", "metric", "parameters", "name", "description", "run_cap")
_EXAMPLE = (
    "dict(method='grid', metric=dict(name='outer_valid_loss', goal='minimize'), "
    "parameters=dict(local_learning_rate=dict(values=[1.0, 0.5])))"
)
_FORMS = (
    f"value, values (with probabilities), or min and max with a distribution of {', '.join(DISTRIBUTIONS)}"
)


def check_sweep_config(where: str, value: Any, check_setting: CheckSetting) -> dict[str, Any] | None:
    """A sweep, or the path of a config file that has one as its `sweep_config`; None for an empty one.

    Raises:
      UserError: a file without a sweep; see also `check_sweep`.
    """
    if isinstance(value, str):
        found = load_file(value, where).get("sweep_config")
        if not isinstance(found, dict):
            refuse(f"{value}: sweep_config", "a dict", found, "Name a file such as those in config/sweeps.")
        where, value = f"{value}: sweep_config", found
    return check_sweep(where, value, check_setting) if value else None


def check_sweep(where: str, value: Any, check_setting: CheckSetting) -> dict[str, Any]:
    """A sweep as wandb writes it, completed: `metric` and each range's `distribution` are always there.

    Raises:
      UserError: an unknown key, method, metric or distribution; a parameter that is no setting or a value
        that its setting does not take; method "random" without `run_cap` (the number of points).
    """
    sweep = mapping(where, value, _EXAMPLE)
    for key in sweep:
        if key not in _KEYS:
            unknown(where, key, _KEYS)
    choice(lambda: ("grid", "random")).check(f"{where}.method", sweep.get("method"))
    sweep["metric"] = _check_metric(f"{where}.metric", sweep.get("metric"))
    if sweep["method"] == "random" or "run_cap" in sweep:
        whole(1, such_as=32).check(f"{where}.run_cap", sweep.get("run_cap"))
    parameters = mapping(f"{where}.parameters", sweep.get("parameters"), "dict(beta=dict(values=[0.9, 0.5]))")
    if not parameters:
        refuse(f"{where}.parameters", "at least one setting", parameters, f"Write {_EXAMPLE}.")
    sweep["parameters"] = {
        name: _check_parameter(f"{where}.parameters.{name}", name, spec, sweep["method"], check_setting)
        for name, spec in parameters.items()
    }
    size = math.prod(len(spec.get("values", [0])) for spec in sweep["parameters"].values())
    cap = sweep.get("run_cap", size)
    check_count(where, cap if sweep["method"] == "random" else min(size, cap))
    return sweep


def _check_metric(where: str, value: Any) -> dict[str, str]:
    """`goal` is missing where the user leaves it to the metric's direction, which the task knows.

    A winner is chosen on outer_valid, never on test.
    """
    if value is None:
        return {"name": "outer_valid_loss", "goal": "minimize"}
    metric = mapping(where, value, "dict(name='outer_valid_loss', goal='minimize')")
    for key in metric:
        if key not in ("name", "goal"):
            unknown(where, key, ("name", "goal"))
    name = metric.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"train_loss|outer_valid_\S+", name):
        hint = nearest(str(name), LOSSES).strip() or "Write for example outer_valid_loss."
        expected = "train_loss, or outer_valid_NAME with a metric of the task"
        refuse(f"{where}.name", expected, name, hint)
    if name in LOSSES:
        metric.setdefault("goal", "minimize")
    if "goal" in metric:
        choice(lambda: ("minimize", "maximize")).check(f"{where}.goal", metric["goal"])
    return metric


def _check_parameter(where: str, name: str, value: Any, method: str, check_setting: CheckSetting) -> dict:
    spec = mapping(where, value, "dict(values=[1.0, 0.5])")
    if set(spec) == {"value"}:
        return {"value": check_setting(where, name, spec["value"])}
    if "values" in spec and set(spec) <= {"values", "probabilities"}:
        return _check_values(where, name, spec, check_setting)
    if {"min", "max"} <= set(spec) <= {"min", "max", "distribution", "q"}:
        if method == "grid":
            refuse(where, "value or values", spec, "List the values, or use method='random' with run_cap.")
        return _check_range(where, name, spec, check_setting)
    refuse(where, _FORMS, spec, "Write one of these forms.")


def _check_values(where: str, name: str, spec: dict, check_setting: CheckSetting) -> dict:
    values = spec["values"]
    if not isinstance(values, list) or not values:
        refuse(where, "a list of values", values, "Write values=[...] with at least one value.")
    checked = {"values": [check_setting(where, name, item) for item in values]}
    if "probabilities" not in spec:
        return checked
    shares = spec["probabilities"]
    numbers = isinstance(shares, list) and all(is_number(p) and p >= 0 for p in shares)
    if not numbers or len(shares) != len(values) or abs(sum(shares) - 1) > 1e-6:
        refuse(where, f"{len(values)} probabilities that sum to 1", shares, "Give one for each value.")
    return checked | {"probabilities": shares}


def _check_range(where: str, name: str, spec: dict, check_setting: CheckSetting) -> dict:
    ends = [spec["min"], spec["max"]]
    whole_numbers = all(type(end) is int for end in ends)
    kind = spec.setdefault("distribution", "int_uniform" if whole_numbers else "uniform")
    choice(lambda: DISTRIBUTIONS).check(f"{where}.distribution", kind)
    if kind == "int_uniform" and not whole_numbers:
        refuse(where, "whole numbers min and max for int_uniform", ends, "Use uniform for other numbers.")
    if kind.startswith("q_") != ("q" in spec) or not is_number(spec.get("q", 1)) or spec.get("q", 1) <= 0:
        refuse(where, "a finite q above 0 with q_uniform and q_log_uniform_values alone", spec, "Change q.")
    stays_whole = kind == "int_uniform" or (whole_numbers and type(spec.get("q")) is int)
    for key in ("min", "max"):
        spec[key] = _check_end(where, name, spec[key], check_setting, stays_whole)
    low, high = spec["min"], spec["max"]
    if not low < high or ("log" in kind and low <= 0):
        refuse(where, "min below max (and above 0 for log)", [low, high], "Change the range.")
    if "q" in spec:
        _check_step(where, low, high, spec["q"])
    return spec


def _check_end(where: str, name: str, end: Any, check_setting: CheckSetting, stays_whole: bool) -> float:
    """One end of a range: within the setting's own range, and of its type once it is drawn."""
    checked = check_setting(where, name, end)
    if type(checked) not in (int, float):
        refuse(where, "a setting that is a number", end, "Use values=[...] for this one.")
    if type(checked) is int and not stays_whole:
        try:
            return check_setting(where, name, float(checked))
        except UserError:
            expected = "int_uniform, or whole min, max and q, for a setting of whole numbers"
            refuse(where, expected, end, "Change the distribution.")
    return checked


def _check_step(where: str, low: float, high: float, q: float) -> None:
    from learned_aggregation.meta_testing.points import multiples

    first, last = multiples(low, high, q) if q <= high - low else (0, -1)
    if first > last:
        refuse(where, f"q with multiples between min and max, {[low, high]}", q, "Lower q.")


def check_count(where: str, count: int) -> None:
    """Refuses more points than can be made; they are counted before they are.

    Raises:
      UserError: more than MAX_POINTS.
    """
    if count > MAX_POINTS:
        remedy = f"Set run_cap to at most {MAX_POINTS} (method='random' for a sample of all), or list fewer values."
        refuse(where, f"at most {MAX_POINTS} points", count, remedy)


def check_entrants(where: str, value: Any, check_setting: CheckSetting) -> list[dict[str, Any]]:
    """The methods of a comparison: dicts with `label`, `optimizer`, settings of their own and, for a rule to
    be tuned, `sweep`: a setting's name -> the values of its grid.

    Raises:
      UserError: naming the method by its position.
    """
    example = "[dict(label='FedAvg', optimizer='fedavg', sweep=dict(local_learning_rate=[1.0, 0.5]))]"
    return _check_entries(where, value, "method", example, check_setting)


def check_problems(where: str, value: Any, check_setting: CheckSetting) -> list[dict[str, Any]]:
    """The inner problems of a mixture: dicts with `label` and settings of their own, one task in each.

    Raises:
      UserError: naming the problem by its position.
    """
    example = "[dict(label='digits', task='mlp32_digits_8'), dict(label='glyphs', task='conv8_glyphs_28')]"
    problems = _check_entries(where, value, "problem", example, check_setting)
    for i, problem in enumerate(problems):
        task = problem.get("task", "")
        if not isinstance(task, str) or len(_expanded(task)) > 1:
            refuse(f"{where}[{i}].task", "one task", task, "Give each task a problem of its own.")
    return problems


def _expanded(task: str) -> list[str]:
    from learned_aggregation.tasks.names import expand_task

    return list(expand_task(task)) if task else []


def _check_entries(
    where: str, value: Any, what: str, example: str, check_setting: CheckSetting
) -> list[dict[str, Any]]:
    if not isinstance(value, (list, tuple)):
        refuse(where, "a list of dicts", value, f"Write it as {example}.")
    entries = [
        _check_entry(f"{where}[{i}]", mapping(f"{where}[{i}]", entry, example[1:-1]), what, check_setting)
        for i, entry in enumerate(value)
    ]
    labels = [entry["label"] for entry in entries]
    if len(set(labels)) < len(labels):
        refuse(where, "labels that differ", labels, f"Give each {what} a label of its own.")
    return entries


def _check_entry(
    where: str, entry: Mapping[str, Any], what: str, check_setting: CheckSetting
) -> dict[str, Any]:
    for key in _NEEDED[what]:
        if key not in entry:
            refuse(where, f"{key} in every {what}", dict(entry), f"Add {key}=...")
    checked: dict[str, Any] = {"label": file_name("FedAvg").check(f"{where}.label", entry["label"])}
    for name, value in entry.items():
        if name == "sweep" and what == "method":
            grids = mapping(f"{where}.sweep", value, "dict(local_learning_rate=[1.0, 0.5])")
            checked["sweep"] = {
                key: _check_values(f"{where}.sweep.{key}", key, {"values": values}, check_setting)["values"]
                for key, values in grids.items()
            }
            check_count(f"{where}.sweep", math.prod(map(len, checked["sweep"].values())))
        elif name != "label":
            checked[name] = check_setting(f"{where}.{name}", name, value)
    return checked
