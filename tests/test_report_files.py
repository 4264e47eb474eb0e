"""What a report reads: CSV files, whole or cut off, and the statistics over seeds."""

import math

import numpy as np
import pytest
from report_runs import rounds_of

from learned_aggregation.report.files import read_csv
from learned_aggregation.report.statistics import estimate, interval95, smooth, standard_error, thin


def test_a_killed_writer_costs_its_last_line_only(tmp_path):
    path = tmp_path / "rounds.csv"
    path.write_bytes(b"round,loss\r\n1,0.5\r\n2\r\n\0\0\r\n\n3,0.25,9\nround,loss\n4,0.2\n5,0.1")
    table = read_csv(path)
    assert table.columns == {"round": ["1", "4"], "loss": ["0.5", "0.2"]}
    assert table.skipped == 4  # the short and the long line, the repeated heading, the one without a newline


def test_a_broken_quote_spoils_one_line(tmp_path):
    (tmp_path / "a.csv").write_text('name,value\n"x,1\n"{""a"": 1, ""b"": 2}",2\n')
    assert read_csv(tmp_path / "a.csv").columns == {"name": ['{"a": 1, "b": 2}'], "value": ["2"]}


@pytest.mark.parametrize("content", [None, b"", b"\n", b"step,loss", b"\0\0\0\n"])
def test_no_table_without_a_whole_heading(tmp_path, content):
    if content is not None:
        (tmp_path / "a.csv").write_bytes(content)
    assert read_csv(tmp_path / "a.csv") is None


def test_interval_and_standard_error():
    values = np.arange(10.0)
    assert standard_error(values) == pytest.approx(math.sqrt(82.5 / 9 / 10))
    assert interval95(values) == pytest.approx(2.262157163 * math.sqrt(82.5 / 9 / 10))
    assert interval95(np.array([0.0, 1.0])) == pytest.approx(12.70620474 * 0.5)
    assert np.isnan(interval95(np.ones((1, 3)))).all()


def test_a_diverged_seed_is_not_averaged_away():
    assert estimate(np.array([1.0, 3.0])).mean == 2
    assert estimate(np.array([1.0, np.inf, np.nan])).diverged == 2
    assert np.isnan(estimate(np.array([1.0, np.nan])).mean)


def test_curves_hold_the_rounds_that_all_seeds_share(tmp_path):
    (train, test) = sorted(
        rounds_of(
            tmp_path,
            """optimizer,task,seed,round,train_loss,test_loss,bytes_up,bytes_down
            fedavg,t,0,1,4,,80,10
            fedavg,t,0,2,3,1.5,160,20
            fedavg,t,1,1,5,,80,10
            fedavg,t,1,2,9,2.5,160,20
            fedavg,t,1,2,7,2.5,160,20
            fedavg,t,0,3,1,,240,30
            """,
        ),
        key=lambda curve: -len(curve.rounds),
    )
    assert (train.metric, train.rounds.tolist(), train.bytes.tolist()) == ("train_loss", [1, 2], [90, 180])
    assert train.values.tolist() == [[4, 3], [5, 7]]  # of the row written twice, the last
    assert (test.metric, test.rounds.tolist(), test.values.tolist()) == ("test_loss", [2], [[1.5], [2.5]])


def test_curves_need_only_rounds_and_a_metric(tmp_path):
    (curve,) = rounds_of(tmp_path, "round,test_loss\n2,0.5\n1,1\n")
    assert (curve.rounds.tolist(), curve.values.tolist(), curve.bytes) == ([1, 2], [[1, 0.5]], None)


def test_thin_and_smooth_keep_the_mean():
    values = np.random.default_rng(0).normal(size=(2, 1000))
    assert thin(values).shape == (2, 200)
    np.testing.assert_allclose(thin(values).mean(axis=1), values.mean(axis=1))
    np.testing.assert_allclose(smooth(np.array([1.0, 2.0, np.nan, 4.0]), 3), [1.5, 1.5, 3.0, 4.0])
