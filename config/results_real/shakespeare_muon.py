# Tinyshakespeare by bytes, GPT, Muon clients, K = 4, H = 30
# Source: comparisons of docs/results_real.md; methods, grids, equal budgets: config/_base_/results_real.py.
# Run:    make results-real (those without a table yet); one of them: python src/main.py --config config/results_real/shakespeare_muon.py FLAGS DATA --run_dir runs/results_real/NAME
# Expect: EXPECT shakespearemuon EST
_base_ = "../_base_/results_real.py"
task = "gpt_h64_m256_nh2_nl2_textfile_32"
num_grads = 4
num_local_steps = 30
local_batch_size = 8
num_inner_steps = 60
eval_every = 3
eval_examples = 800
local_optimizer = "muon"
keep_local_state = True
tuning_seeds = 1
_methods = _base_._methods
entrants = _methods["muon, text"]
