"""The server: a learned or classical aggregator as Flower's strategy."""

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from flower_digits.problem import initial_params, mean_metrics, problem
from learned_aggregation import DropIn
from learned_aggregation.integrations.flower import LearnedAggregation, from_record, to_record

CLASSICAL = {
    "fedavg": {},
    "fedavgm": {"learning_rate": 1.0, "beta": 0.5},
    "fedadam": {"learning_rate": 0.03, "beta1": 0.9, "beta2": 0.99, "tau": 0.001},
}
"""Baselines by name; any other name is a meta-trained aggregator's."""

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    name = str(config["aggregator"])
    params = initial_params(config["seed"])

    def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord:
        held_out = problem()[1].splits["inner_valid"].examples
        return MetricRecord(mean_metrics(from_record(arrays, params), held_out))

    strategy = LearnedAggregation(
        DropIn(name, options=CLASSICAL[name]) if name in CLASSICAL else name,
        state_file=config["state-file"] or None,
        fraction_evaluate=config["fraction-evaluate"],
        min_train_nodes=config["min-clients"],
        min_evaluate_nodes=config["min-clients"],
        min_available_nodes=config["min-clients"],
    )
    result = strategy.start(
        grid,
        to_record(params),
        num_rounds=config["num-server-rounds"],
        timeout=config["reply-timeout"],
        evaluate_fn=evaluate,
    )
    for number, metrics in result.evaluate_metrics_serverapp.items():
        print(f"round {number}: loss {metrics['loss']:.4f}, accuracy {metrics['accuracy']:.4f}", flush=True)
