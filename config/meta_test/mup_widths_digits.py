# LAgg-A in muP at widths that it was never meta-trained on (32 and 64 were).
#
# Source:  Therien et al., arXiv:2406.00153, on embedded data.
# Run:     python src/main.py --config config/meta_test/mup_widths_digits.py      (after config/meta_train/mup_digits.py)
# Expect:  losses alike at all widths; the wider ones not worse. 512 takes most of the time.
_base_ = "../_base_/problems/digits.py"

optimizer = "fedlagg-adafac"
test_checkpoint = "checkpoints/mup_digits"
task = ("mlp128x128_digits_8", "mlp256x256_digits_8", "mlp512x512_digits_8")
parametrization = "mup"
mup_base_width = 32
num_runs = 3
