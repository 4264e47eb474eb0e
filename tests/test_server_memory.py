"""The benchmark of a server that adds one client at a time, and what its claim asks."""

import pytest

from benchmarks import server
from benchmarks.claims import speed
from benchmarks.run import SERVERS, names


def test_a_round_is_measured():
    """Small, in this process; the benchmark asks for finite parameters itself."""
    found = server.one_round(clients=3, parameters=4000)
    assert found["peak_mb"] >= 0
    assert found["model_mb"] == pytest.approx(4000 * 4 / 2**20)
    assert set(SERVERS) <= set(names())
    assert server.shapes(100_000_000)["kernel0"] == (25_000, 1000)


def measured(few, many, parameters=100_000_000):
    common = {"parameters": parameters, "model_mb": 381.5, "add_s": 1.0, "finish_s": 2.0}
    return {"rounds": [common | {"clients": 2, "peak_mb": few}, common | {"clients": 64, "peak_mb": many}]}


@pytest.mark.parametrize(
    ("found", "met"),
    [
        (measured(5000.0, 6000.0), True),
        (measured(5000.0, 6001.0), False),
        (measured(5000.0, 5000.0, 10_000_000), False),
    ],
)
def test_the_bound_of_the_memory(found, met):
    [claim] = [one for one in speed.claims() if one.key == "server-memory"]
    assert claim.judge(found).met == met
