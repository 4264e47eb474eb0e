"""A few classes per client: the pathological split."""

import numpy as np

from learned_aggregation.errors import UserError


def partition(
    labels: np.ndarray,
    clients: np.ndarray | None,
    num_clients: int,
    seed: int,
    shards_per_client: int = 2,
) -> list[np.ndarray]:
    """Sorts the examples by class, cuts them into equal shards and deals shards_per_client to each client.

    A shard covers one class, or two where a class ends inside it, so that shards_per_client is about the
    number of classes of a client. Shard sizes differ by one at most.

    Raises:
      UserError: more shards than examples.
    References:
      McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS
      2017, arXiv:1602.05629, section 3.
    """
    count = num_clients * shards_per_client
    if shards_per_client < 1 or count > len(labels):
        raise UserError(
            f"partition shards: expected 1 to {len(labels) // num_clients} shards_per_client "
            f"({len(labels)} examples, {num_clients} clients), got {shards_per_client!r}. Lower one of them."
        )
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(labels))
    shards = np.array_split(shuffled[np.argsort(labels[shuffled], kind="stable")], count)
    dealt = rng.permutation(count).reshape(num_clients, shards_per_client)
    return [np.concatenate([shards[shard] for shard in hand]) for hand in dealt]
