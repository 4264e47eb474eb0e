"""Numbers and values as they come: NumPy's, beyond a float, of thousands of digits; refused in one line each."""

import math

import numpy as np
import pytest

from learned_aggregation.config.kinds import brief, is_number, python_value
from learned_aggregation.config.resolve import Config, config_text, load_config
from learned_aggregation.config.settings import SETTINGS
from learned_aggregation.errors import UserError

FLAGS = [row.name for row in SETTINGS.values() if row.flag]
EXTREME = {
    "a whole number beyond float": "1" + "0" * 400,
    "more digits than Python reads": "9" * 5000,
    "an exponent": "1e999",
    "many signs": "-" * 3000 + "1",
    "many brackets": "[" * 3000,
    "many open braces": "{" * 300 + "}" * 300,
    "a dict with a list as key": "{[]: 1}",
    "no text": "",
    "a null": "a\0b",
    "lines": "a\nb",
    "half a character": "a\udcff",
}


@pytest.mark.parametrize("case", EXTREME)
@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_takes_any_text_or_says_why_in_one_line(name, case, monkeypatch):
    config, message = _config_or_message(f"--{name}={EXTREME[case]}")
    if config is not None:
        config_text(config).encode()
        return
    assert message.startswith(f"--{name}")
    assert "\n" not in message
    assert len(message) <= 2100


def _config_or_message(flag):
    try:
        return load_config([flag]), ""
    except UserError as error:
        return None, str(error)


@pytest.mark.parametrize("value", [10**400, -(10**400), math.inf, math.nan, True, "1", None, 1j])
def test_what_is_no_number(value):
    assert not is_number(value)


def test_a_message_shows_the_beginning_of_a_long_value():
    assert brief("x" * 10_000).endswith("... (10002 characters)")
    assert brief(10**5000) == "a number of about 4983 digits"
    nested: list = []
    for _ in range(100_000):
        nested = [nested]
    assert brief(nested) == "a value nested too deeply to show"


NUMPY = {
    "run_type": np.str_("sweep"),
    "optimizer": np.str_("fedadam"),
    "learning_rate": np.float32(0.1),
    "num_grads": np.int64(2),
    "dropout": np.float64(0.1),
    "keep_local_state": np.bool_(True),
    "local_learning_rate_range": np.array([0.1, 1.0]),
    "rule_options": {"tau": np.float16(0.25)},
    "schedule": {"warmup_steps": np.int32(3)},
    "sweep_config": {
        "method": "grid",
        "parameters": {
            "rule_options.beta1": {"values": np.linspace(0, 0.5, 3)},
            "num_local_steps": {"values": [np.uint8(1)]},
        },
    },
}


def test_numpy_values_are_pythons(tmp_path):
    config = Config(**NUMPY)
    plain = Config(
        run_type="sweep",
        optimizer="fedadam",
        learning_rate=0.1,
        num_grads=2,
        dropout=0.1,
        keep_local_state=True,
        local_learning_rate_range=(0.1, 1.0),
        rule_options={"tau": 0.25},
        schedule={"warmup_steps": 3},
        sweep_config={
            "method": "grid",
            "parameters": {
                "rule_options.beta1": {"values": [0, 0.25, 0.5]},
                "num_local_steps": {"values": [1]},
            },
        },
    )
    assert config == plain
    assert config_text(config) == config_text(plain).replace("'values': [0, 0.25", "'values': [0.0, 0.25")


def test_numpy_values_in_a_file(tmp_path):
    (tmp_path / "a.py").write_text(
        "import numpy as _np\nlearning_rate = _np.float32(0.1)\nnum_grads = _np.arange(4)[2]\n"
    )
    config = load_config(["--config", str(tmp_path / "a.py")])
    assert (config.learning_rate, config.num_grads) == (0.1, 2)


@pytest.mark.parametrize("value", [np.complex64(1j), np.datetime64("2020"), np.array(object()), object()])
def test_other_values_stay_what_they_are_and_are_refused(value):
    assert python_value(value) is value
    with pytest.raises(UserError, match="num_grads: expected a whole number"):
        Config(num_grads=value)
