# LOpt-A over server momentum, on digits: a small aggregator of any K for config/meta_test/families_*.py.
# Source: LOpt-A of Joseph et al., TMLR 2025, arXiv:2312.02204, correcting a classical rule.
# Run:    python src/main.py --config config/meta_train/families.py --auto_resume
# Expect: the meta-loss falls from about 0.5 to about 0.2; a minute on two cores.
_base_ = "digits_quickstart.py"
optimizer = "fedlopt-adafac"
base = "momentum"
name_suffix = "_families"
truncation_length = 20
truncation_schedule_min_length = 20
num_inner_steps = 100
num_outer_steps = 300
schedule = dict(decay_steps=300)
