"""MMEngine config files and KEY=VALUE options, as plain values. MMEngine is imported on use."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from learned_aggregation.config.kinds import check_path, refuse
from learned_aggregation.registry import nearest


def load_file(file: str, where: str) -> dict[str, Any]:
    """The settings in an MMEngine config, `_base_` included, as plain values, not checked.

    Names that begin with an underscore are the file's own and no settings.

    Args:
      where: who named the file, for the message that it is not there.
    Raises:
      UserError: no such file, or one that does not load.
    """
    from mmengine.config import Config as FileConfig

    file = check_path(where, file, "config/meta_test/digits.py")
    if not os.path.isfile(file):
        refuse(where, "a config file", file, _near_file(Path(file)))
    try:
        values = FileConfig.fromfile(file, import_custom_modules=False, lazy_import=False).to_dict()
    except SyntaxError as error:  # MMEngine names a temporary copy before what is wrong
        detail = str(error).rpartition(".py: ")[2].replace("<unknown>, ", "")
        refuse(file, "valid Python, also in its _base_ files", detail, "Fix the syntax.")
    except Exception as error:  # whatever the code in the file, or in its bases, raises
        refuse(file, "a config that loads", f"{type(error).__name__}: {error}", "Fix the file.")
    return {name: value for name, value in values.items() if not name.startswith("_")}


def _near_file(missing: Path) -> str:
    siblings = [str(p) for p in missing.parent.glob("*.py")] if os.path.isdir(missing.parent) else []
    return nearest(str(missing), siblings).strip() or "Name one such as those in config/."


def parse_options(texts: Sequence[str]) -> dict[str, Any]:
    """`a.b=c` texts as MMEngine's DictAction reads them: {"a.b": c}."""
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--o", nargs=1, action=DictAction)
    parsed: dict[str, Any] = {}
    for text in texts:
        try:
            parsed |= parser.parse_args([f"--o={text}"]).o
        except (ValueError, AssertionError):
            refuse("--cfg-options", "KEY=VALUE", text, "Write for example schedule.peak_value=1e-3.")
        except RecursionError:  # MMEngine's answer to commas inside brackets that are no list
            refuse("--cfg-options", "a list of plain values", text, "Put dicts and calls in a config file.")
    return parsed


def merge_options(values: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """The values with the options merged in, dict by dict."""
    from mmengine.config import Config as FileConfig

    merged, key = FileConfig(values), ""
    try:
        for key, value in options.items():
            merged.merge_from_dict({key: value})
        return merged.to_dict()
    except (KeyError, TypeError) as error:
        refuse("--cfg-options", "a key of the config", key, f"Check the key ({error}).")
    except RecursionError:  # MMEngine walks down a key of many dots
        refuse("--cfg-options", "a key of a few parts", key, "Name a setting as schedule.peak_value does.")
