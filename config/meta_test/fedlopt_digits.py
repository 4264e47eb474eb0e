# LOpt (fedlopt), learned. An MLP 64-32-10 on scikit-learn's digits.
# Source: Joseph et al., TMLR 2025, arXiv:2312.02204.
# Run:    python src/main.py --config config/meta_train/digits_quickstart.py --optimizer fedlopt
#         python src/main.py --config config/meta_test/fedlopt_digits.py
# Expect: the first command meta-trains the checkpoint that the second tests for 100 rounds of 10 seeds;
#         rounds.csv and report.html in runs/. Needs nothing; the first takes minutes on 2 cores.
_base_ = "../_base_/meta_test_digits.py"
optimizer = "fedlopt"
test_checkpoint = "checkpoints/fedlopt32_mlp32_digits_8_K8_H4_0.5_quickstart"
