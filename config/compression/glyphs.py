# Loss by rounds and by bits on glyphs of 14x14, an MLP 196-64-10: FedAvg, Nesterov, lagg-set under compression.
# Source: methods and grids are those of config/_base_/compression.py; a row of `make claims CLAIM=round`.
# Run:    python src/main.py --config config/compression/glyphs.py
# Expect: table.csv and report.html in runs/; eight minutes on two quiet cores.
_base_ = "../_base_/compression.py"
task = "mlp64_glyphs_14"
