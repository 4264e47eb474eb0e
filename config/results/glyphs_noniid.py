# Out of distribution: glyphs of 14x14, MLP 196-64-10, Dirichlet 0.1, 16 of 64 clients.
# Source: a cell of docs/results.md; entrants and grids: config/_base_/results.py.
# Run:    python src/main.py --config config/results/glyphs_noniid.py (all cells: make results)
# Expect: table.csv and report.html in runs/; some minutes on two quiet cores.
_base_ = "../_base_/results.py"
task = "mlp64_glyphs_14"
num_grads = 16
num_clients = 64
partition = "dirichlet"
