"""Meta-training in 30 lines: an aggregator for small MLPs on digits, then against FedAvg on seeds that it has not seen.

Run: python examples/meta_train.py [OUTER STEPS; 200]
"""

import sys

import learned_aggregation as la

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 200
problem = {
    "task": "mlp16_digits_8", "num_grads": 8, "num_local_steps": 4, "local_batch_size": 32, "local_learning_rate": 0.5,
}  # fmt: skip

trained = la.meta_train(
    optimizer="fedlagg-set",
    hidden_size=16,
    num_outer_steps=STEPS,  # updates of theta
    num_tasks=8,  # models trained side by side
    num_inner_steps=50,  # rounds of an episode
    truncation_length=10,  # rounds between two updates of theta
    truncation_schedule_min_length=10,
    auto_resume=True,  # run again, it goes on where it was
    **problem,
)
loss = trained.curves["meta_loss"]
print(
    f"meta-loss {loss[:5].mean():.3f} at the start, {loss[-5:].mean():.3f} at the end; theta: {trained.checkpoint}"
)

result = la.compare(
    {"FedAvg": "fedavg", "learned": trained}, num_inner_steps=50, num_runs=5, seed=1000, **problem
)
for row in result.table.rows():
    print(f"{row['entrant']}: test loss {row['test_loss']:.4f} ± {row['test_loss_ci95']:.4f} after 50 rounds")
