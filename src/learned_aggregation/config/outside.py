"""`custom_imports` and `datasets`: what a config brings from outside."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from learned_aggregation.config.kinds import choice, fraction, mapping, names, refuse, unknown, whole
from learned_aggregation.registry import OUTSIDE, is_outside

_IMPORTS = "dict(imports=['my_rules'])"
_DATASETS = "dict(mine=dict(type='npz', path='mine.npz', clients='writer'))"
_NEEDED = {
    "npz": ("path",),
    "image_folder": ("path",),
    "video_folder": ("path",),
    "tfds": ("name",),
    "huggingface": ("path",),
    "arrays": ("sha256",),
}
"""Type -> the keys that its entries must have; `name` and `sha256` are for these types alone."""


def check_custom_imports(where: str, value: Any) -> dict[str, Any]:
    """The modules to import before names are looked up, as MMEngine has it; they are imported here.

    Args:
      value: dict(imports=[...], allow_failed_imports=False), or the modules as a list or a comma list; None is {}.
    Raises:
      UserError: no such module, or one that cannot be imported, with its file and line.
    """
    entry = value if isinstance(value, dict) else {"imports": value or []}
    entry = mapping(where, entry, _IMPORTS)
    for key in entry:
        if key not in ("imports", "allow_failed_imports"):
            unknown(where, key, ("imports", "allow_failed_imports"))
    may_fail = entry.get("allow_failed_imports", False)
    if type(may_fail) is not bool:
        refuse(f"{where}.allow_failed_imports", "True or False", may_fail, "Write True or False.")
    asked = entry.get("imports") or []
    kind = names(_check_module, what="names of modules", such_as="my_rules,my_package.tasks")
    modules = kind.check(f"{where}.imports" if isinstance(value, dict) else where, asked)
    for module in modules:
        _import(where, module, may_fail)
    if not modules:
        return {}
    return {"imports": list(modules)} | ({"allow_failed_imports": True} if may_fail else {})


def _check_module(where: str, value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", value):
        refuse(
            where, "names of modules", value, "Name them as `import` does, such as my_rules, not my_rules.py."
        )
    return value


def _import(where: str, module: str, may_fail: bool) -> None:
    from learned_aggregation.errors import UserError
    from learned_aggregation.outside import import_outside

    try:
        import_outside(module, None, where)
    except UserError as error:
        if not may_fail:
            raise
        import warnings

        warnings.warn(f"{error} Going on without it, as allow_failed_imports says.", stacklevel=2)


def check_datasets(where: str, value: Any) -> dict[str, Any]:
    """The user's data sets: name -> entry, see `data.sources.Entry`. Nothing of them is read here.

    Raises:
      UserError: a name that is taken or that no task's name can hold; an unknown type or key.
    """
    entries = mapping(where, value or {}, _DATASETS)
    return {name: _check_entry(f"{where}.{name}", name, entry) for name, entry in entries.items()}


def _check_entry(where: str, name: str, value: Any) -> dict[str, Any]:
    from learned_aggregation.data import DATASETS, is_packaged
    from learned_aggregation.data.sources import SOURCES, Entry

    if not re.fullmatch(r"[A-Za-z][\w-]*", name):
        refuse(where, "a name of letters, digits, _ and -", name, "Rename it, for example to my_data.")
    if name in DATASETS or is_packaged(name):
        refuse(where, "a name that no data set has", name, f"Rename it, for example to my_{name}.")
    entry = mapping(where, value, _DATASETS[5:-1].partition("=")[2])
    choice(lambda: SOURCES).check(f"{where}.type", entry.get("type"))
    needed = _NEEDED.get(entry["type"], ())
    others = {"name", "sha256"} - set(needed) if not is_outside(entry["type"]) else set()
    others |= set() if entry["type"] == "video_folder" or is_outside(entry["type"]) else {"frames"}
    known = [key for key in Entry._fields if key not in others]
    for key, item in entry.items():
        if key not in known:
            unknown(where, key, known)
        entry[key] = _CHECKS[key](f"{where}.{key}", item)
    for key in needed:
        if entry.get(key) is None:
            refuse(where, f"{key} with type={entry['type']!r}", entry, f"Add {key}=...")
    if (
        isinstance(entry.get("path"), dict)
        and entry["type"] not in ("npz",)
        and not is_outside(entry["type"])
    ):
        refuse(f"{where}.path", "one path", entry["path"], "Name the folder that holds the parts.")
    return entry


def _check_path(where: str, value: Any) -> Any:
    paths = value.values() if isinstance(value, dict) and value else [value]
    for one in paths:
        if not isinstance(one, str) or not one or "\0" in one:
            refuse(
                where,
                "a path, or a dict of them: train, valid, test",
                value,
                "Give a path such as 'mine.npz'.",
            )
    return value


def _check_text(where: str, value: Any) -> Any:
    if value is not None and (not isinstance(value, str) or not value):
        refuse(where, "a name", value, "Write it as text.")
    return value


def _check_columns(where: str, value: Any) -> dict[str, Any]:
    columns = mapping(where, value, "dict(image='pixels', label='digit')")
    for leaf, named in columns.items():
        several = leaf in ("features", "target") and isinstance(named, list) and named
        for one in named if several else [named]:
            if not isinstance(one, str):
                refuse(
                    f"{where}.{leaf}", "the name of a column", named, "Write it as text, such as 'pixels'."
                )
    return columns


def _check_fractions(where: str, value: Any) -> list[float]:
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        refuse(
            where, "three fractions, of train, valid and test", value, "Write for example [0.8, 0.1, 0.1]."
        )
    shares = [fraction(0.1).check(where, share) for share in value]
    if abs(sum(shares) - 1) > 1e-6:
        refuse(where, "fractions that sum to 1", value, "Write for example [0.8, 0.1, 0.1].")
    return shares


def _optional_whole(minimum: int):
    kind = whole(minimum, 10)
    return lambda where, value: None if value is None else kind.check(where, value)


_CHECKS = {
    "type": lambda where, value: value,
    "path": _check_path,
    "name": _check_text,
    "clients": _check_text,
    "sha256": _check_text,
    "frames": _optional_whole(2),
    "columns": _check_columns,
    "fractions": _check_fractions,
    "seed": lambda where, value: whole(0, 0).check(where, value),
    "num_classes": _optional_whole(1),
}


def modules_of(settings: Mapping[str, Any]) -> set[str]:
    """The modules that settings name, for the messages about errors that come from them."""
    found = set((settings.get("custom_imports") or {}).get("imports", ()))
    return found | {match[1] for text in _texts(list(settings.values())) for match in OUTSIDE.finditer(text)}


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _texts(item)
