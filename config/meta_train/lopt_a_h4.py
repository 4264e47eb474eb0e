# lopt-a-h4: LOpt-A over heavy-ball momentum, H = 4 local steps, any K (it reads the mean delta), on digits.
#
# Source:  fedlopt-adafac of Joseph et al., TMLR 2025, arXiv:2312.02204, in the residual form (base = momentum);
#          meta-trained as config/meta_train/lagg_a_k8_h4.py.
# Run:     python src/main.py --config config/meta_train/lopt_a_h4.py
# Expect:  the meta-loss falls from 0.35 to below 0.2; a few minutes on two quiet cores.
_base_ = "lagg_a_k8_h4.py"

name = "lopt_a_h4"
optimizer = "fedlopt-adafac"
base = "momentum"
base_learning_rate = 1.0
base_momentum = 0.6
episode_growth_steps = 100
num_outer_steps = 400
schedule = dict(
    init_value=1e-4, peak_value=1e-2, end_value=1e-3, warmup_steps=20, decay_steps=400, exponent=1.0, clip=0.1
)
