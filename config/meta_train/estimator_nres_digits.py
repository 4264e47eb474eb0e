# NRES on digits: one of a pair, equal but for the estimator; the other is estimator_pes_digits.py.
#
# Source:  Li et al., NeurIPS 2023, arXiv:2304.12180.
# Run:     python src/main.py --config config/meta_train/estimator_nres_digits.py (both, 3 seeds each: python -m
#          benchmarks.estimator_runs)
# Expect:  see docs/estimators.md; about half a minute of two cores per run.
_base_ = "../_base_/meta_train_estimator_digits.py"

estimator = "nres"
name_suffix = "_estimator_nres"
