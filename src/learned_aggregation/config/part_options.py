"""Options of a round's parts: `rule_options`, `compressor_options`, `server_compressor`; and settings inside them.

A setting inside a dict has a dotted name, `rule_options.tau`, in sweeps and comparisons as in --cfg-options.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from learned_aggregation.config.kinds import choice, is_number, mapping, python_value, refuse
from learned_aggregation.registry import nearest

OPTION_SETTINGS = ("rule_options", "compressor_options", "objective_options", "freezing")
"""The settings that are dicts of options, whose items may be swept one by one."""

_SETTINGS_OF_THEIR_OWN = ("num_grads", "hidden_size", "local_learning_rate", "base")


def check_options(where: str, value: Any) -> dict[str, Any]:
    """A dict of names to numbers, texts and switches; which ones there are depends on another setting."""
    options = mapping(where, value, "dict(tau=0.01)")
    return {name: check_option(f"{where}.{name}", item) for name, item in options.items()}


def check_option(where: str, value: Any) -> Any:
    """A finite number, a text, True, False or None."""
    value = python_value(value)
    if type(value) in (int, float) and not is_number(value):
        refuse(where, "a finite number", value, "Give a number such as 0.1.")
    if value is not None and not isinstance(value, (bool, int, float, str)):
        refuse(where, "a number, a text or a switch", value, "Give one value, such as 0.1.")
    return value


def check_freezing(where: str, value: Any) -> dict[str, Any]:
    """Options of FreezeOut; {} is no freezing, dict(t0=0.8) the others' defaults."""
    options = check_options(where, value)
    if options:
        from learned_aggregation.problems.freezeout import check_freezeout

        check_freezeout(where, options)
    return options


def check_server_compressor(where: str, value: Any) -> dict[str, Any]:
    """A compressor's name, or a dict of its type and options; stored as the dict."""
    entry = {"type": value} if isinstance(value, str) else mapping(where, value, "dict(type='qsgd', bits=8)")
    if "type" not in entry:
        refuse(where, "a type in the dict", value, "Write it as dict(type='qsgd', bits=8).")
    choice(compressors).check(f"{where}.type", entry["type"])
    return check_options(where, entry)


def compressors() -> Mapping[str, Any]:
    from learned_aggregation.federated.compressors import COMPRESSORS

    return COMPRESSORS


def check_parts(values: Mapping[str, Any], where: Callable[[str], str]) -> None:
    """That the optimizer and the compressors take the options that are given; what is swept counts too.

    JAX is imported for settings that need the check, and for no others.
    """
    swept = list((values["sweep_config"] or {}).get("parameters", ()))
    _check_rule_options(values, where, swept)
    down = values["server_compressor"]
    for setting, name, options in (
        ("compressor_options", values["compressor"], values["compressor_options"]),
        ("server_compressor", down["type"], {k: v for k, v in down.items() if k != "type"}),
    ):
        if name != "none" or options:
            check_compressor(where(setting), name, options)


def _check_rule_options(values: Mapping[str, Any], where: Callable[[str], str], swept: Sequence[str]) -> None:
    asked = [*values["rule_options"], *(n.partition(".")[2] for n in swept if n.startswith("rule_options."))]
    if not asked or "optimizer" in swept:
        return
    from learned_aggregation.aggregators import accepted_options

    rule = values["optimizer"]
    known = [name for name in accepted_options(rule) if name not in _SETTINGS_OF_THEIR_OWN]
    for name in asked:
        if name in _SETTINGS_OF_THEIR_OWN:
            refuse(
                where("rule_options"), "options of the rule alone", name, f"Use the setting {name} itself."
            )
        if name not in known:
            advice = nearest(name, known).strip() or f"{rule} has {', '.join(known) or 'none'}."
            refuse(where("rule_options"), f"options of {rule}", name, advice)


def check_compressor(where: str, name: str, options: Mapping[str, Any]) -> None:
    """Refuses a compressor that does not take its options."""
    from learned_aggregation.errors import UserError
    from learned_aggregation.federated.compressors import get_compressor

    try:
        get_compressor(name, **options)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def merged(values: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a point changes, dotted names gathered into the dicts of `values` that they belong to."""
    changed: dict[str, Any] = {}
    for name, value in point.items():
        setting, dot, option = name.partition(".")
        if dot:
            changed[setting] = {**changed.get(setting, values[setting]), option: value}
        else:
            changed[setting] = value
    return changed
