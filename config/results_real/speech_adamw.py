# Spoken digits, conv net, the 6 speakers as clients, AdamW clients, H = 16
# Source: comparisons of docs/results_real.md; methods, grids, equal budgets: config/_base_/results_real.py.
# Run:    make results-real; or python src/main.py --config config/results_real/speech_adamw.py DATA
# Expect: About 27 minutes of two quiet cores.
_base_ = "../_base_/results_real.py"
task = "convgn16x32_fsdd_28"
num_grads = 6
partition = "natural"
num_local_steps = 16
num_inner_steps = 100
local_optimizer = "adamw"
keep_local_state = True
tuning_seeds = 1
_methods = _base_._methods
entrants = _methods["adamw, speech"]
