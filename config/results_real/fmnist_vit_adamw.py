# Fashion-MNIST, a vision transformer of 2 layers and width 48 (patches of 7), AdamW clients, K = 4, H = 30
# Source: comparisons of docs/results_real.md; methods, grids, equal budgets: config/_base_/results_real.py.
# Run:    make results-real; or python src/main.py --config config/results_real/fmnist_vit_adamw.py DATA
# Expect: FedAvg at about 83 %, four epochs (82.2 % after 150 rounds at rate .001, one seed; wider, deeper or with
#         patches of 4, 83 to 84 % after 200). About 44 minutes of two quiet cores.
_base_ = "../_base_/results_real.py"
task = "vit_p7_h48_m96_nh3_nl2_fmnist_28"
num_grads = 4
num_local_steps = 30
local_batch_size = 8
num_inner_steps = 200
eval_every = 10
local_optimizer = "adamw"
keep_local_state = True
tuning_seeds = 1
_methods = _base_._methods
entrants = _methods["adamw, images"]
