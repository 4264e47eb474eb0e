# In distribution: glyphs, a conv net of 8 and 16 channels, H = 4.
# Source: a comparison of docs/results.md; most entrants and grids: config/results/conv.py.
# Run:    python src/main.py --config config/results/conv_h4.py (all: make results)
# Expect: table.csv and report.html in runs/; some minutes on two quiet cores.
_base_ = "conv.py"
_data_parallel = dict(local_batch_size=64)  # the examples of a client's round in one step
entrants = _base_.entrants + [
    dict(
        label="data-parallel SGD",
        optimizer="sgd",
        sweep=dict(learning_rate=[0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6]),
        **_data_parallel,
    ),
    dict(
        label="data-parallel Adam",
        optimizer="adam",
        sweep=dict(learning_rate=[1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3]),
        **_data_parallel,
    ),
]
