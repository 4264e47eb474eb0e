# Fashion-MNIST, a conv net with GroupNorm (16, 32 and 64 channels), K = 8, H = 4, B = 32, SGD clients, 300 rounds
# Source: a comparison of docs/results_real.md; methods, grids, equal budgets: config/_base_/results_real.py.
# Run:    make results-real; or python src/main.py --config config/results_real/fmnist_conv_h4.py DATA
# Expect: FedAvg above 88 % (88.3 % after 200 rounds at rate .3, one seed). About 42 minutes of two quiet cores.
_base_ = "../_base_/results_real.py"
task = "convgn16x32x64_fmnist_28"
num_inner_steps = 300
eval_every = 10
tuning_seeds = 1
_methods = _base_._methods
entrants = _methods["sgd, coarse, 300 rounds"]
