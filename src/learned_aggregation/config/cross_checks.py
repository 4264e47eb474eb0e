"""Checks of settings that depend on each other, once each is checked by itself."""

from collections.abc import Callable, Mapping
from typing import Any

from learned_aggregation.config.kinds import refuse
from learned_aggregation.data import check_dataset_name
from learned_aggregation.errors import UserError


def check_together(values: Mapping[str, Any], where: Callable[[str], str]) -> None:
    """Refuses values that do not fit each other.

    Args:
      values: of all settings, as their kinds store them.
      where: a setting's name -> who set it, for the message.
    Raises:
      UserError: naming one setting of those that do not fit.
    """
    _check_tasks(values, where)
    _check_sizes(values, where)
    _check_accumulation(values, where)
    _check_stream(values, where)
    _check_run_type(values, where)
    _check_split(values, where)
    _check_feda2v(values, where)
    _check_objective(values, where)
    _check_whole_runs(values, where)


def _check_sizes(values: Mapping[str, Any], where: Callable[[str], str]) -> None:
    longest = values["num_inner_steps"]
    if values["run_type"] == "meta-train":
        for name in ("truncation_schedule_min_length", "truncation_length"):
            if values[name] > longest:
                remedy = f"Lower {name} or raise num_inner_steps."
                refuse(where(name), f"at most num_inner_steps, {longest}", values[name], remedy)
    if values["num_clients"] is not None and values["num_clients"] < values["num_grads"]:
        expected = f"at least num_grads, {values['num_grads']}"
        refuse(where("num_clients"), expected, values["num_clients"], "Raise num_clients or lower num_grads.")
    trains = values["run_type"] == "meta-train"  # a meta-test's chunks are of its seeds and points
    if trains and values["tasks_per_chunk"] is not None and values["num_tasks"] % values["tasks_per_chunk"]:
        expected = f"a divisor of num_tasks, {values['num_tasks']}"
        refuse(where("tasks_per_chunk"), expected, values["tasks_per_chunk"], "Choose a divisor.")


def _check_accumulation(values: Mapping[str, Any], where: Callable[[str], str]) -> None:
    """Local steps whose gradients would be lost, or not be put together."""
    parts, steps, place = values["accum_iter"], values["num_local_steps"], where("accum_iter")
    if parts == 1:
        return
    from learned_aggregation.federated.clients import DATA_PARALLEL

    if values["run_type"] == "siammae":
        refuse(place, "1 with run_type 'siammae'", parts, "Set siammae.accumulate.")
    if values["optimizer"] in DATA_PARALLEL and values["run_type"] != "compare":
        expected = f"1 with optimizer {values['optimizer']!r}, whose clients take one step per round"
        refuse(place, expected, parts, "Leave it out, or set it to 1 for this optimizer.")
    if not values["keep_local_state"] and steps % parts:
        remedy = "Choose a divisor, or keep_local_state, with which gradients wait for the next round."
        refuse(place, f"a divisor of num_local_steps, {steps}", parts, remedy)
    if parts > steps * values["num_inner_steps"]:
        expected = f"at most the local steps of a run, {steps * values['num_inner_steps']}"
        refuse(place, expected, parts, "Lower it: no step of the clients' optimizer would be taken.")


def _check_stream(values: Mapping[str, Any], where: Callable[[str], str]) -> None:
    if values["stream_fresh"] > values["stream_window"]:
        remedy = "Lower stream_fresh or raise stream_window."
        expected = f"at most stream_window, {values['stream_window']}"
        refuse(where("stream_fresh"), expected, values["stream_fresh"], remedy)
    if values["augment"] and values["stream"] is False:
        remedy = "Leave stream out: images are augmented while they are read."
        refuse(where("stream"), "True or None with augment", False, remedy)


def _check_run_type(values: Mapping[str, Any], where: Callable[[str], str]) -> None:
    """A sweep needs a sweep_config and a comparison entrants; with another run_type they would go unused."""
    needed = {"sweep": "sweep_config", "compare": "entrants"} | {
        run: run for run in ("split", "siammae", "feda2v")
    }
    for run_type, name in needed.items():
        if values["run_type"] == run_type and not values[name]:
            refuse(where("run_type"), f"{name} with run_type {run_type!r}", values[name], f"Give {name}.")
        if values["run_type"] != run_type and values[name]:
            remedy = f"Add --run_type {run_type}, or leave {name} out."
            refuse(where(name), f"run_type {run_type!r} with {name}", values["run_type"], remedy)


def _check_split(values: Mapping[str, Any], where: Callable[[str], str]) -> None:
    """That there are the data sets that stages name."""
    options = values["split"]
    if not options:
        return
    places = [(where("split"), options)]
    places += [(f"{where('split')}.cases[{i}]", case) for i, case in enumerate(options["cases"])]
    for place, of in places:
        for name in ("base_dataset", "ae_dataset"):
            if of.get(name) is not None:
                try:
                    check_dataset_name(of[name], values["datasets"])
                except UserError as error:
                    raise UserError(f"{place}.{name}: {str(error).removeprefix('data set: ')}") from None


def _check_feda2v(values: Mapping[str, Any], where: Callable[[str], str]) -> None:
    """All clients take part in every round, but those that have left."""
    options, clients = values["feda2v"], values["num_grads"]
    if not options:
        return
    if values["num_clients"] not in (None, clients):
        expected = f"num_grads, {clients}, with run_type 'feda2v', whose clients all take part"
        refuse(where("num_clients"), expected, values["num_clients"], "Leave it out.")
    if values["dropout"] and options["use_pretrained_generators"]:
        expected = "0 with use_pretrained_generators"
        refuse(where("dropout"), expected, values["dropout"], "Set leaving_client for a client that leaves.")
    leaving = options["leaving_client"]
    if leaving is not None and not leaving < clients > 1:
        expected = f"a client below num_grads, {clients}, and another one that stays"
        refuse(f"{where('feda2v')}.leaving_client", expected, leaving, "Lower it, or raise num_grads.")


def _check_tasks(values: Mapping[str, Any], where: Callable[[str], str]) -> None:
    """That there are such tasks, also those that a sweep names."""
    swept = (values["sweep_config"] or {}).get("parameters", {}).get("task", {})
    for value in (*swept.get("values", ()), *([swept["value"]] if "value" in swept else ())):
        _check_task(value, f"{where('sweep_config')}.parameters.task", values["datasets"])
    _check_task(values["task"], where("task"), values["datasets"])


def _check_task(value: str | tuple[str, ...], where: str, datasets: Mapping[str, Any]) -> None:
    from learned_aggregation.tasks.names import expand_task, parse_task_name

    for name in (value,) if isinstance(value, str) else value:
        try:
            for task in expand_task(name):
                parse_task_name(task, datasets)
        except UserError as error:
            raise UserError(f"{where}: {str(error).removeprefix('task: ')}") from None


def _check_objective(values: Mapping[str, Any], where: Callable[[str], str]) -> None:
    """It must read every task's data; where a mixture or a sweep names the tasks, these are checked there.

    Of data from outside the kind is not known before it is loaded: it is checked then.
    """
    swept = (values["sweep_config"] or {}).get("parameters", {})
    if values["objective_options"] and not {"objective", "task"} & swept.keys():
        from learned_aggregation.tasks.objectives import check_objective_options

        check_objective_options(values["objective"], values["objective_options"], where("objective_options"))
    if values["objective"] is None or values["problems"] or {"task", "objective"} & swept.keys():
        return
    from learned_aggregation.data import is_packaged
    from learned_aggregation.tasks.names import expand_task, parse_task_name
    from learned_aggregation.tasks.objectives import objective_name

    named = (values["task"],) if isinstance(values["task"], str) else values["task"]
    for task in (task for name in named for task in expand_task(name)):
        dataset = parse_task_name(task, values["datasets"]).dataset
        if is_packaged(dataset, values["datasets"]):
            objective_name(dataset, values["objective"], where("objective"))


def _check_whole_runs(values: Mapping[str, Any], where: Callable[[str], str]) -> None:
    """Freezing follows the rounds of a whole run, which an episode of meta-training is not."""
    if values["freezing"] and values["run_type"] in ("meta-train", "split"):
        expected = "run_type 'benchmark', 'sweep' or 'compare' with freezing"
        refuse(where("freezing"), expected, values["run_type"], "Leave freezing out.")
    if values["probes"] and values["run_type"] not in ("benchmark", "compare"):
        expected = "run_type 'benchmark' or 'compare' with probes"
        refuse(where("probes"), expected, values["run_type"], "Leave probes out.")
    if values["auto_resume"] and values["run_type"] == "benchmark" and values["stream"]:
        refuse(where("stream"), "None or False with auto_resume", values["stream"], "Leave stream out.")
