# Tinyshakespeare by bytes, GPT, AdamW clients, K = 4, H = 30
# Source: comparisons of docs/results_real.md; methods, grids, equal budgets: config/_base_/results_real.py.
# Run:    make results-real; or python src/main.py --config config/results_real/shakespeare_adamw.py DATA
# Expect: FedAvg at about 2.0 nats per byte (2.04 at rate .003, one seed). The model has 135,000 numbers, not 1 to 3
#         million: what two cores can train some 270 times. About 57 minutes of two quiet cores.
_base_ = "../_base_/results_real.py"
task = "gpt_h64_m256_nh2_nl2_textfile_32"
num_grads = 4
num_local_steps = 30
local_batch_size = 8
num_inner_steps = 60
eval_every = 3
eval_examples = 800
local_optimizer = "adamw"
keep_local_state = True
tuning_seeds = 1
_methods = _base_._methods
entrants = _methods["adamw, text"]
