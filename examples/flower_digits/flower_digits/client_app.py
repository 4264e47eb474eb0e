"""A client: a few local SGD steps on its own digits."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from flower_digits.problem import NO_STATE, client_examples, initial_params, mean_metrics, problem
from learned_aggregation.federated.local_training import local_training
from learned_aggregation.integrations.flower import from_record, to_record

app = ClientApp()


@cache
def trainer(learning_rate: float):
    return jax.jit(local_training(problem()[0], optax.sgd(learning_rate)).run)


def own_examples(context: Context) -> tuple[int, dict[str, np.ndarray]]:
    """(this client's number, its examples)."""
    config, node = context.run_config, context.node_config
    client = int(node["partition-id"])
    return client, client_examples(
        client, int(node["num-partitions"]), float(config["dirichlet-alpha"]), int(config["seed"])
    )


@app.train()
def train(message: Message, context: Context) -> Message:
    config, number = context.run_config, message.content["config"]["server-round"]
    client, examples = own_examples(context)
    size = len(examples["label"])
    # A client's batches depend on the round alone: a run that goes on draws what it would have drawn.
    draw = np.random.default_rng((config["seed"], client, number))
    rows = draw.integers(size, size=(config["local-steps"], config["local-batch-size"]))
    params = from_record(message.content["arrays"], initial_params(config["seed"]))
    batches = {name: leaf[rows] for name, leaf in examples.items()}
    run = trainer(float(config["local-learning-rate"]))
    delta, _, _, loss = run(params, NO_STATE, (), jax.random.key(number), batches)
    metrics = MetricRecord({"train-loss": float(loss), "num-examples": size, "client-id": client})
    trained = to_record(jax.tree.map(jnp.add, params, delta))
    return Message(RecordDict({"arrays": trained, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """How the server's model suits this client's own examples."""
    _, examples = own_examples(context)
    params = from_record(message.content["arrays"], initial_params(context.run_config["seed"]))
    metrics = mean_metrics(params, examples) | {"num-examples": len(examples["label"])}
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)
