# LAgg (fedlagg), learned. An MLP 64-32-10 on scikit-learn's digits.
# Source: Joseph et al., TMLR 2025, arXiv:2312.02204.
# Run:    python src/main.py --config config/meta_train/digits_quickstart.py --optimizer fedlagg
#         python src/main.py --config config/meta_test/fedlagg_digits.py
# Expect: the first command meta-trains the checkpoint that the second tests for 100 rounds of 10 seeds;
#         rounds.csv and report.html in runs/. Needs nothing; the first takes minutes on 2 cores.
_base_ = "../_base_/meta_test_digits.py"
optimizer = "fedlagg"
test_checkpoint = "checkpoints/fedlagg32_mlp32_digits_8_K8_H4_0.5_quickstart"
