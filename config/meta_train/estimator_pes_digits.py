# PES on digits: one of a pair, equal but for the estimator; the other is estimator_nres_digits.py.
#
# Source:  Vicol et al., ICML 2021, arXiv:2112.13835.
# Run:     python src/main.py --config config/meta_train/estimator_pes_digits.py (both, 3 seeds each: python -m
#          benchmarks.estimator_runs)
# Expect:  see docs/estimators.md; about half a minute of two cores per run.
_base_ = "../_base_/meta_train_estimator_digits.py"

estimator = "pes"
name_suffix = "_estimator_pes"
