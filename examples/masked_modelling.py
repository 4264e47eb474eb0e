"""Four clients without labels: digits reconstructed from a quarter of their patches, layers frozen one after the other.

The rule, the compressors and the clients' optimizer are any of the package's; what is frozen is not sent.
python examples/masked_modelling.py [ROUNDS]
"""

import sys

import jax
import numpy as np

from learned_aggregation import get_aggregator
from learned_aggregation.data.federated import to_federated
from learned_aggregation.federated.client_work import independently
from learned_aggregation.federated.clients import LOCAL_OPTIMIZERS
from learned_aggregation.federated.local_training import local_training
from learned_aggregation.federated.parts import assemble
from learned_aggregation.federated.round import federated_round, init_server, traffic
from learned_aggregation.problems.freezeout import FreezeOut, changes
from learned_aggregation.problems.inner_problem import RoundSizes, draw_round
from learned_aggregation.problems.phases import Length, all_params, enter, freezeout
from learned_aggregation.ssl.probes import Sizes, probe_data, run_probes
from learned_aggregation.tasks import make_task

rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
sizes, plan = RoundSizes(4, num_local_steps=4, local_batch_size=16), FreezeOut(t0=0.5, phases=2)
task, data = make_task(
    "vit_p4_h16_m32_nh2_nl2_digits_8", objective="localmim", objective_options={"decoder_width": 16}
)
train = to_federated(data.splits["train"], [np.arange(len(data.splits["train"].examples["label"]))])
work = independently(local_training(task, LOCAL_OPTIMIZERS["adamw-matrices"](0.003)))
plain = assemble(task, work, get_aggregator("diloco", learning_rate=0.9, beta=0.5))

length = Length(rounds, sizes.num_local_steps)
first = freezeout(plain, plan, length, frozen=0)
params, state = first.task.init(jax.random.key(0))
server = init_server((), first, params, state, population=4)
plans = changes(plan, 2, *length)
for phase, end in zip(plans, [change.round for change in plans[1:]] + [rounds], strict=True):
    parts = freezeout(plain, plan, length, phase.frozen)
    server = enter((), parts, plan, phase.frozen, server, population=4)

    @jax.jit
    def one_round(server, key, parts=parts):
        cohort = draw_round(train, key, sizes)
        return federated_round((), parts, server, *cohort, key)

    for r in range(phase.round, end):
        server, loss = one_round(server, jax.random.key(r))
    bits = traffic(parts, server.params).up
    print(
        f"round {end}: loss {loss:.4f}, {phase.frozen} layers frozen, {bits:.0f} bits up per client and round"
    )

# What was learned without labels, read with 50 of them; and the same of a random encoder.
probed = probe_data(data, None, lambda split: data.splits[split].examples)
for name, params in (("trained", all_params(server)), ("random", task.init(jax.random.key(0))[0])):
    found = run_probes(("linear50", "knn"), Sizes(10, 256), probed, task, params, (), jax.random.key(1))
    print(name, {probe: f"{100 * float(accuracy):.1f} %" for probe, accuracy in found.items()})
