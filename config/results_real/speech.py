# Spoken digits, a conv net with GroupNorm (16 and 32 channels) on mel spectrograms, a speaker a client, SGD clients, B 32.
# Source: comparisons of docs/results_real.md; methods, grids, equal budgets: config/_base_/results_real.py.
# Run:    make results-real (those without a table yet); one of them: python src/main.py --config config/results_real/speech.py FLAGS DATA --run_dir runs/results_real/NAME
#   speech_h4: Spoken digits, conv net, the 6 speakers as clients, H = 4.
#   speech_h8: Spoken digits, conv net, the 6 speakers as clients, H = 8. --num_local_steps 8
#   speech_k3: Spoken digits, conv net, 3 of 6 speakers, H = 8. --num_grads 3 --num_clients 6 --num_local_steps 8
# Expect: FedAvg above 93 % (93.7 % after 100 rounds at H 4 and rate .1, one seed; a linear model on all data: 96.7 %).
#         About 17, 29, 17 minutes, in this order, of two quiet cores.
_base_ = "../_base_/results_real.py"
task = "convgn16x32_fsdd_28"
num_grads = 6
partition = "natural"
tuning_seeds = 1
_methods = _base_._methods
entrants = _methods["sgd, fine, 200 rounds"]
