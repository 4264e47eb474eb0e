"""Results of cases on disk: read back as they were, or run again."""

import json

import numpy as np
import pytest

from learned_aggregation.jobs.case_results import finished, result_path, write_result

RESULT = {
    "label": "a",
    "seed": 3,
    "losses": [0.1, float("nan"), float("inf")],
    "evaluated": {"loss": [1e-30]},
}


def test_a_result_comes_back_bit_for_bit(tmp_path, capsys):
    assert finished(tmp_path, "one", "a", 3) is None
    assert not capsys.readouterr().err
    write_result(tmp_path, "one", RESULT)
    found = finished(tmp_path, "one", "a", 3)
    assert list(found) == list(RESULT)
    np.testing.assert_array_equal(found["losses"], RESULT["losses"])
    assert finished(tmp_path, "one", "b", 3) is None


def cut(text):
    return json.dumps({"label": "a", "seed": 3})


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        lambda text: text.replace("0.1", "0.2"),
        lambda text: text.replace("losses", "lossez"),
        lambda text: "[" * 100_000,
        lambda text: "[]",
        lambda text: "null",
        lambda text: text[:-9],
        lambda text: "",
    ],
)
def test_a_damaged_result_is_run_again_and_said_so(tmp_path, capsys, damage):
    write_result(tmp_path, "one", RESULT)
    where = result_path(tmp_path, "one")
    where.write_text(damage(where.read_text(encoding="utf-8")), encoding="utf-8")
    assert finished(tmp_path, "one", "a", 3) is None
    assert "one.json: expected a result, got" in capsys.readouterr().err


def test_a_directory_in_its_place_is_no_result(tmp_path, capsys):
    result_path(tmp_path, "one").mkdir(parents=True)
    assert finished(tmp_path, "one", "a", 3) is None
    assert "expected a result" in capsys.readouterr().err
