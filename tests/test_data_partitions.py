"""Division over clients: every example once, nobody empty, always an end."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learned_aggregation.data.partitions import PARTITIONS, class_counts, partition, split_labels
from learned_aggregation.data.stratified import quantile_bins
from learned_aggregation.errors import UserError
from learned_aggregation.registry import brought
from learned_aggregation.types import Split

LABELS = np.random.default_rng(0).integers(10, size=1000)
OPTIONS = {
    "dirichlet": st.fixed_dictionaries({"alpha": st.floats(1e-4, 1e3)}),
    "quantity": st.fixed_dictionaries({"alpha": st.floats(1e-4, 1e3)}),
    "shards": st.fixed_dictionaries({"shards_per_client": st.integers(1, 3)}),
}


def is_division(rows, count, num_clients):
    return (
        len(rows) == num_clients
        and min(len(ids) for ids in rows) >= 1
        and np.array_equal(np.sort(np.concatenate(rows)), np.arange(count))
    )


@pytest.mark.parametrize("name", sorted(PARTITIONS))
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_example_goes_to_exactly_one_client(name, data):
    classes = data.draw(st.integers(1, 5))
    labels = np.array(data.draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=120)))
    options = data.draw(OPTIONS.get(name, st.just({})))
    most = len(labels) // options.get("shards_per_client", 1)
    clients = np.arange(len(labels)) if name == "natural" else None
    num_clients = 1 if name == "shared" else data.draw(st.integers(1, max(most, 1)))
    if most == 0:
        return
    seed = data.draw(st.integers(0, 2**32))
    rows = partition(name, labels, clients, num_clients, seed, **options)
    assert is_division(rows, len(labels), num_clients)
    again = partition(name, labels, clients, num_clients, seed, **options)
    assert all(np.array_equal(a, b) for a, b in zip(rows, again, strict=True))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["dirichlet", "quantity"]),
    st.integers(1, 20),
    st.integers(1, 8),
    st.integers(0, 30),
    st.floats(1e-4, 10),
)
def test_min_size_is_met_whenever_it_can_be(name, num_clients, min_size, spare, alpha):
    labels = np.arange(num_clients * min_size + spare) % 3
    rows = partition(name, labels, None, num_clients, 1, alpha=alpha, min_size=min_size)
    assert is_division(rows, len(labels), num_clients)
    assert min(len(ids) for ids in rows) >= min_size


@pytest.mark.parametrize("name", sorted(set(PARTITIONS) - {"shared"}))
def test_the_seed_changes_the_division(name):
    clients = np.random.default_rng(1).integers(40, size=1000)
    one, other = (partition(name, LABELS, clients, 8, seed) for seed in (0, 1))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_class_counts_adds_up():
    rows = partition("dirichlet", LABELS, None, 7, 0)
    counts = class_counts(rows, LABELS, 12)
    assert counts.shape == (7, 12)
    assert counts.sum(0).tolist() == np.bincount(LABELS, minlength=12).tolist()
    assert counts.sum(1).tolist() == [len(ids) for ids in rows]
    assert counts[3, 4] == sum(LABELS[i] == 4 for i in rows[3])


def test_dirichlet_skew_falls_with_alpha():
    def largest_share(alpha):
        counts = class_counts(partition("dirichlet", LABELS, None, 5, 0, alpha=alpha), LABELS, 10)
        return (counts.max(0) / counts.sum(0)).mean()

    assert largest_share(0.01) > 0.9 > largest_share(1.0) > largest_share(1000.0)
    assert largest_share(1000.0) < 0.27


def test_shards_bound_the_classes_of_a_client():
    labels = np.repeat(np.arange(10), 60)  # 600 examples, 20 shards of 30: no shard holds two classes
    rows = partition("shards", labels, None, 10, 0, shards_per_client=2)
    assert {len(ids) for ids in rows} == {60}
    assert (class_counts(rows, labels, 10) > 0).sum(1).max() <= 2


def test_a_regression_is_divided_by_tenths_of_its_targets():
    target = np.random.default_rng(2).exponential(size=(200, 2))
    split = Split({"features": np.zeros((200, 3)), "target": target})
    labels = split_labels(split)
    assert np.bincount(labels).tolist() == [20] * 10
    assert np.all(np.diff(labels[np.argsort(target[:, 0])]) >= 0)
    rows = partition("shards", labels, None, 10, 0, shards_per_client=1)
    assert sorted(np.ptp(target[ids, 0]) for ids in rows)[4] < 0.2 * np.ptp(target[:, 0])
    assert class_counts(rows, labels, 1).shape == (10, 10)  # as many columns as there are labels


def test_equal_values_share_a_bin():
    assert quantile_bins(np.array([3.0, 3.0, 3.0, 3.0, 1.0]), 5).tolist() == [1, 1, 1, 1, 0]
    assert quantile_bins(np.zeros(7)).tolist() == [0] * 7


def test_quantity_skews_sizes_and_not_labels():
    labels = np.arange(6000) % 2
    rows = partition("quantity", labels, None, 6, 0, alpha=0.5)
    sizes = np.array([len(ids) for ids in rows])
    assert sizes.max() > 50 * sizes.min()
    largest = rows[sizes.argmax()]
    assert abs(labels[largest].mean() - 0.5) < 0.05
    even = [len(ids) for ids in partition("quantity", labels, None, 6, 0, alpha=1e5)]
    assert max(even) - min(even) < 60


def test_iid_parts_are_equal():
    assert sorted(len(ids) for ids in partition("iid", LABELS, None, 7, 0)) == [142] + [143] * 6


def test_natural_clients_stay_whole():
    clients = np.random.default_rng(1).integers(20, size=1000) * 5
    rows = partition("natural", LABELS, clients, 20, 0)
    assert all(len(set(clients[ids])) == 1 for ids in rows)
    merged = partition("natural", LABELS, clients, 6, 0)
    assert sum(len(set(clients[ids])) for ids in merged) == 20
    assert {len(set(clients[ids])) for ids in merged} == {3, 4}


def test_shared_is_one_pool():
    (row,) = partition("shared", LABELS)
    assert row.tolist() == list(range(1000))


@pytest.mark.parametrize(
    ("name", "num_clients", "options", "message"),
    [
        ("dirichlet", 1001, {}, "partition dirichlet: expected 1 to 1000 clients, .*, got 1001"),
        ("iid", 0, {}, "expected 1 to 1000 clients, .*, got 0"),
        ("dirichlet", 10, {"min_size": 101}, "min_size from 1 to 100 .*, got 101"),
        ("quantity", 10, {"min_size": 101}, "min_size from 1 to 100 .*, got 101"),
        ("dirichlet", 10, {"alpha": 0.0}, "alpha above 0, got 0.0"),
        ("quantity", 10, {"alpha": float("nan")}, "alpha above 0, got nan"),
        ("shards", 10, {"shards_per_client": 101}, "1 to 100 shards_per_client .*, got 101"),
        ("shards", 10, {"shards_per_client": 0}, "shards_per_client .*, got 0"),
        ("natural", 10, {}, "expected data with natural clients, got none"),
        ("shared", 10, {}, "expected one pool .*, got 10"),
        ("dirichlet", 10, {"alhpa": 1}, "got 'alhpa'. Did you mean 'alpha'"),
        ("iid", 10, {"alpha": 1}, r"expected options out of \(\), got 'alpha'"),
        ("dirichlett", 10, {}, "Did you mean 'dirichlet'"),
    ],
)
def test_requests_that_cannot_be_met_are_one_clear_line(name, num_clients, options, message):
    with pytest.raises(UserError, match=message) as caught:
        partition(name, LABELS, None, num_clients, 0, **options)
    assert "\n" not in str(caught.value)


def test_too_many_natural_clients():
    with pytest.raises(UserError, match="at most the 3 natural clients, got 4"):
        partition("natural", LABELS, np.arange(1000) % 3, 4, 0)


@pytest.mark.parametrize(
    "rows",
    [None, [np.arange(3)], [np.arange(6), np.arange(6)], [np.arange(6), np.arange(0)], [np.arange(3), np.arange(4, 7)],
     [np.arange(3.0), np.arange(3.0, 6)]],
)  # fmt: skip
def test_rows_of_a_partitioner_from_outside_must_divide_the_examples(rows):
    """Ids that are not there would be read as others in silence, and a client without any as example 0."""

    def mine(labels, clients, num_clients, seed):
        return rows

    with (
        brought({("partition", "mine"): mine}),
        pytest.raises(UserError, match="partition mine: expected 2 arrays of example ids, none empty"),
    ):
        partition("mine", LABELS[:6], None, 2)
