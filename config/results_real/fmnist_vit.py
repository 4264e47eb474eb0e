# Fashion-MNIST, a vision transformer of 2 layers and width 48 (patches of 7), adaptive clients, K 8, H 16, B 8.
# Source: comparisons of docs/results_real.md; methods, grids, equal budgets: config/_base_/results_real.py.
# Run:    make results-real (those without a table yet); one of them: python src/main.py --config config/results_real/fmnist_vit.py FLAGS DATA --run_dir runs/results_real/NAME
#   fmnist_vit_adamw: Fashion-MNIST, ViT, AdamW clients, K = 8, H = 16.
# Expect: TIME
_base_ = "../_base_/results_real.py"
task = "vit_p7_h48_m96_nh3_nl2_fmnist_28"
num_local_steps = 16
local_batch_size = 8
num_inner_steps = 100
local_optimizer = "adamw"
keep_local_state = True
tuning_seeds = 1
_methods = _base_._methods
entrants = _methods["adamw, images"]
