# Loss by rounds and by bits on digits, Dirichlet 0.1, 8 of 64 clients: FedAvg, Nesterov, lagg-set under compression.
# Source: methods and grids are those of config/_base_/compression.py; a row of `make claims CLAIM=round`.
# Run:    python src/main.py --config config/compression/digits_noniid.py
# Expect: table.csv and report.html in runs/; six minutes on two quiet cores.
_base_ = "../_base_/compression.py"
task = "mlp32_digits_8"
num_clients = 64
partition = "dirichlet"
