# Pytext by characters, GPT, Muon clients, K = 4, H = 30: the sizes of shakespeare_muon.py
# Source: comparisons of docs/results_real.md; methods, grids, equal budgets: config/_base_/results_real.py.
# Run:    make results-real; or python src/main.py --config config/results_real/pytext_muon.py DATA
# Expect: the short list of methods. About 48 minutes of two quiet cores.
_base_ = "shakespeare_muon.py"
task = "gpt_h64_m256_nh2_nl2_pytext_32"
entrants = _base_._methods["muon, text, short"]
