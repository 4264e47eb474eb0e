# LAgg-A on digits in muP: meta-trained at small widths, made for wide ones.
#
# Source:  Therien et al., arXiv:2406.00153 (muLO: several small widths, one task), on embedded data.
# Run:     python src/main.py --config config/meta_train/mup_digits.py
# Expect:  the meta-loss falls from 2.4 to below 0.5; some minutes on two cores. Then
#          python src/main.py --config config/meta_test/mup_widths_digits.py
_base_ = "digits_quickstart.py"

name = "mup_digits"
task = ("mlp32x32_digits_8", "mlp64x64_digits_8")
parametrization = "mup"
mup_base_width = 32
num_tasks = 4
