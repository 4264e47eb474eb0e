# All scenarios: the autoencoder's data (the downstream set or another one), trained centrally or at each client, decoders
# aggregated or one for each client. Autoencoders train along in stage 2, so that a central one with a decoder for each
# client differs from one with a decoder for all. Seeds are outermost; started again, finished runs are skipped.
# Source: the two stages of split learning, docs/split.md.
# Run:    python src/main.py --config config/split/scenarios.py
# Expect: table.csv, clients.csv, rounds.csv and report.html in runs/; half an hour on two cores.
_base_ = "two_stage_distributed.py"
name = "split_scenarios"
split = dict(
    ae_frozen=False,
    cases=[
        dict(
            label=", ".join([dataset or "downstream", training, decoders]),
            ae_dataset=dataset,
            ae_training=training,
            decoders=decoders,
        )
        for dataset in (None, "digits")
        for training in ("central", "distributed")
        for decoders in ("aggregated", "own")
    ],
)
