"""Split learning on digits in two stages: an autoencoder at the cut, then the model trained through it.

The clients keep the first block, the server the second; the clients' blocks are averaged by any aggregator.
python examples/split_learning.py [ROUNDS]
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_aggregation import get_aggregator
from learned_aggregation.data import load_dataset
from learned_aggregation.data.federated import to_federated
from learned_aggregation.federated.compressors import get_compressor
from learned_aggregation.federated.parts import assemble
from learned_aggregation.federated.round import federated_round, traffic
from learned_aggregation.problems.inner_problem import RoundSizes, draw_round
from learned_aggregation.split.activations import compute
from learned_aggregation.split.bottlenecks import BOTTLENECKS
from learned_aggregation.split.boundary import Boundary, apart
from learned_aggregation.split.finetuning import start_server
from learned_aggregation.split.model import split_model
from learned_aggregation.split.pretraining import Recipe, pretrain
from learned_aggregation.split.work import Sharing, SplitTraining, split_task, split_work

rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
key = jax.random.key(0)

# One base model, cut after its first block; 4 numbers of each token of 16 cross.
data = load_dataset("digits", 8)
model = split_model("vit_p4_h16_m32_nh2_nl2_digits_8", data, split_layer=1)
base = model.init(key)
none = get_compressor("none")
boundary = Boundary(BOTTLENECKS["mlp1"](model.halves.cut, 4), "whole", up=none, down=none)

# Stage 1: central training on the activations at the cut, which are computed once.
train = data.splits["train"]
everything = np.arange(len(train.examples["label"]))
activations = compute(model, model.part(base)[0], train.examples, everything)
tokens = np.asarray(apart(model, boundary, activations)[1])
recipe = Recipe(10, 64, 1e-3, 1e-4, "early_saving", val_split=0.1, patience=5)
fedavg = get_aggregator("fedavg")
stage_1 = pretrain(boundary.bottleneck, tokens, [everything], recipe, fedavg, (), one_decoder=True, key=key)

# Stage 2: parallel split training of 4 clients, the autoencoder frozen.
training = SplitTraining(model, boundary, Sharing(), optax.sgd(0.3), optax.sgd(0.3))
task, sizes = split_task(training), RoundSizes(4, num_local_steps=4, local_batch_size=16)
parts = assemble(task, split_work(training, 4, 16), fedavg)
server = start_server((), parts, training, base, stage_1.autoencoder, population=4)
clients = to_federated(train, np.array_split(everything, 4))


@jax.jit
def one_round(server, clients, round_key):
    cohort_key, train_key = jax.random.split(round_key)
    return federated_round((), parts, server, *draw_round(clients, cohort_key, sizes), train_key)


for index in range(rounds):
    server, loss = one_round(server, clients, jax.random.fold_in(key, index))

test = jax.tree.map(jnp.asarray, data.splits["test"].examples)
accuracy = jnp.mean(task.evaluate(server.params, server.model_state, key, test)["accuracy"])
up, down = traffic(parts, server.params)
print(f"reconstruction error {stage_1.errors[0]:.3f} to {stage_1.errors[-1]:.3f}")
print(
    f"test accuracy {accuracy:.3f} after {rounds} rounds of {up / 8e3:.1f} kB up and {down / 8e3:.1f} down a client"
)
