# lagg-bank: fedlagg-set on a bank of classical steps, meta-trained for clients of several kinds.
#
# Source:  base="bank" (src/learned_aggregation/aggregators/learned/bank.py). Windows of 20 and 50 rounds, truncated
#          backpropagation, problems whose meta-gradients weigh alike. A first mixture with two AdamW problems of small
#          networks on digits won with SGD clients on Fashion-MNIST (last test loss .318; Nesterov .329) and lost with
#          AdamW clients (.86; FedAvg .40), where the same bank untrained won (.389): hence six problems here whose
#          clients are adaptive, some of them large, and Fashion-MNIST. Test splits are never read.
#          With problem_clip=1e-3 (all weigh alike), problem_reject=1e3 and a rate of 5e-3 the meta-losses rose again
#          after 100 outer steps: a tenth of the gradients through momenta exploded, and weighed as much as the rest.
#          Through 20 rounds of AdamW on larger networks most gradients explode (medians 24 and 4 on Fashion-MNIST and
#          text, the largest 1e6 and 1e9, all rejected: at step 70 AdamW clients on Fashion-MNIST ended at .51): 5 there.
# Run:     python src/main.py --config config/meta_train/lagg_bank.py --tfds_data_dir DIR
# Expect:  hours of one core; resumes where it was stopped.
run_type = "meta-train"
name = "lagg_bank"
optimizer = "fedlagg-set"
base = "bank"
estimator = "truncated_backprop"
num_tasks = 1
truncation_length = 20
truncation_schedule_min_length = 20
num_inner_steps = 200
episode_growth_steps = 60
local_batch_size = 32
num_grads = 8
local_learning_rate_range = (0.05, 1.0)
meta_loss_split = "inner_valid"
problem_clip = 0.05
problem_reject = 10.0
_digits = dict(task="mlp32_digits_8")
_noniid = dict(_digits, partition="dirichlet", num_clients=64)
_glyphs = dict(task="mlp32_glyphs_8")
_conv = dict(task="conv8x16_glyphs_8", local_batch_size=16, local_learning_rate_range=(0.1, 1.5))
_fashion = dict(task="image-mlp-fmst")
_long = dict(truncation_length=40, truncation_schedule_min_length=100, episode_growth_steps=0)
_adamw = dict(local_optimizer="adamw", local_learning_rate_range=(2e-4, 1e-2))
_short = dict(truncation_length=5)
problems = [
    dict(label="digits_h4", num_local_steps=4, **_digits, **_long),
    dict(label="digits_h16", num_local_steps=16, **_digits, **_long),
    dict(label="digits_noniid", num_local_steps=4, **_noniid),
    dict(label="digits_noniid_k4", num_grads=4, num_local_steps=8, **_noniid),
    dict(
        label="digits_momentum",
        num_local_steps=4,
        local_optimizer="momentum",
        local_learning_rate_range=(0.01, 0.2),
        **_digits,
    ),
    dict(label="glyphs_k4_h2", num_grads=4, num_local_steps=2, **_glyphs, **_long),
    dict(label="glyphs_k16_h8", num_grads=16, num_local_steps=8, **_glyphs),
    dict(label="glyphs_k1_h8", num_grads=1, num_local_steps=8, **_glyphs),
    dict(label="conv_h4", num_local_steps=4, **_conv),
    dict(label="conv_h8", num_local_steps=8, **_conv),
    dict(
        label="diabetes",
        task="mlp32_diabetes_10",
        num_local_steps=4,
        num_grads=4,
        local_batch_size=16,
        local_learning_rate_range=(0.01, 0.2),
    ),
    dict(
        label="fashion_h4",
        local_batch_size=64,
        num_local_steps=4,
        local_learning_rate_range=(0.03, 0.5),
        **_fashion,
    ),
    dict(label="digits_adamw_h16", num_local_steps=16, **_digits, **_adamw),
    dict(label="digits_adamw_noniid", num_local_steps=8, **_noniid, **_adamw),
    dict(label="glyphs_adamw_wide", task="mlp128x128_glyphs_8", num_local_steps=16, **_adamw, **_short),
    dict(label="fashion_adamw", num_local_steps=16, **_fashion, **_adamw, **_short),
    dict(
        label="text_adamw",
        task="gpt_h32_m64_nh2_nl1_pytext_16",
        num_grads=4,
        num_local_steps=16,
        local_batch_size=8,
        local_optimizer="adamw",
        local_learning_rate_range=(5e-4, 1e-2),
        **_short,
    ),
    dict(
        label="digits_muon",
        num_local_steps=8,
        local_optimizer="muon",
        local_learning_rate_range=(1e-3, 5e-2),
        **_digits,
    ),
]
num_outer_steps = 400
schedule = dict(
    init_value=1e-4, peak_value=2e-3, end_value=2e-4, warmup_steps=20, decay_steps=400, exponent=1.0, clip=1.0
)
save_iter = 10
