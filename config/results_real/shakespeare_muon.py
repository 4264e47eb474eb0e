# Tinyshakespeare by bytes, GPT, Muon clients, K = 4, H = 30
# Source: comparisons of docs/results_real.md; methods, grids, equal budgets: config/_base_/results_real.py.
# Run:    make results-real; or python src/main.py --config config/results_real/shakespeare_muon.py DATA
# Expect: FedAvg at about 2.0 nats per byte (2.00 at rate .006, one seed). About 66 minutes of two quiet cores.
_base_ = "../_base_/results_real.py"
task = "gpt_h64_m256_nh2_nl2_textfile_32"
num_grads = 4
num_local_steps = 30
local_batch_size = 8
num_inner_steps = 40
eval_every = 2
eval_examples = 800
local_optimizer = "muon"
keep_local_state = True
tuning_seeds = 1
_methods = _base_._methods
entrants = _methods["muon, text"]
