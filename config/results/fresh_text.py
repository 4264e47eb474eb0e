# Never looked at: pytext of 16 tokens, a transformer of 2 layers and width 32, K = 8, H = 2, B = 8.
# Source: a cell of docs/results.md; entrants and grids: config/_base_/results_text.py.
# Run:    python src/main.py --config config/results/fresh_text.py (all cells: make results)
# Expect: table.csv and report.html in runs/; some minutes on two quiet cores.
_base_ = "../_base_/results_text.py"
task = "transformer32_pytext_16"
num_grads = 8
num_local_steps = 2
