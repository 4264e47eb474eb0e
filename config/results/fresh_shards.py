# Never looked at: digits, two classes a client, 8 of 32 clients, H = 8.
# Source: a cell of docs/results.md; entrants and grids: config/_base_/results.py.
# Run:    python src/main.py --config config/results/fresh_shards.py (all cells: make results)
# Expect: table.csv and report.html in runs/; some minutes on two quiet cores.
_base_ = "../_base_/results.py"
task = "mlp32_digits_8"
partition = "shards"
num_clients = 32
num_local_steps = 8
