# Language by characters, a transformer of 2 layers and width 64 (131,000 numbers), Muon clients, K 4, H 30, B 8.
# Source: comparisons of docs/results_real.md; methods, grids, equal budgets: config/_base_/results_real.py.
# Run:    make results-real (those without a table yet); one of them: python src/main.py --config config/results_real/text_muon.py FLAGS DATA --run_dir runs/results_real/NAME
#   shakespeare_muon: tinyshakespeare, transformer, Muon clients, K = 4, H = 30. --task transformer_h64_m256_nh2_nl2_textfile_32
#   pytext_muon: pytext, transformer, Muon clients, K = 4, H = 30. --task transformer_h64_m256_nh2_nl2_pytext_32
# Expect: TIME
_base_ = "../_base_/results_real.py"
task = "transformer_h64_m256_nh2_nl2_textfile_32"
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
