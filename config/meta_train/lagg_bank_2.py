# lagg-bank's second part, in two runs: meta-training goes on from lagg_bank.py's theta, with small noisy tables in the mixture.
#
# Source:  base="bank" (src/learned_aggregation/aggregators/learned/bank.py), problems of lagg_bank.py and three new ones.
#          The first part's theta fits faster whatever it is given: on breast cancer's 341 rows it ended far behind plain
#          averaging (last test loss .158; FedAvg .031). Tables with noisy classes (data/noisy.py), whose held-out loss is
#          the meta-loss, teach it to stop. Seven problems that resemble others are left out, for time.
# Run:     python src/main.py --config config/meta_train/lagg_bank_2.py --tfds_data_dir DIR --start_checkpoint checkpoints/lagg_bank
#          and, from what that ends with, further and with larger steps:
#          python src/main.py --config config/meta_train/lagg_bank_2.py --tfds_data_dir DIR --start_checkpoint checkpoints/lagg_bank_2 --name lagg_bank_2b --num_outer_steps 400 --cfg-options schedule.peak_value=3e-3 schedule.decay_steps=400
# Expect:  10 and 40 minutes of one core; checkpoints/pretrained/lagg-bank is what it ends with (docs/meta_training.md).
_base_ = "lagg_bank.py"
name = "lagg_bank_2"
_parts = {problem["label"]: problem for problem in _base_.problems}
_kept = (
    *("digits_h4", "digits_noniid", "glyphs_k4_h2", "glyphs_k16_h8", "conv_h4", "diabetes", "fashion_h4"),
    *("digits_adamw_h16", "fashion_adamw", "text_adamw", "digits_muon"),
)
_table = dict(task="mlp32_noisy_20", num_local_steps=6, local_batch_size=16)
_rates = dict(local_learning_rate_range=(0.05, 0.5))
_long = dict(truncation_length=40, truncation_schedule_min_length=100, episode_growth_steps=0)
_adamw = dict(local_optimizer="adamw", local_learning_rate_range=(5e-4, 1e-2))
problems = [
    *(_parts[label] for label in _kept),
    dict(_table, label="noisy", **_rates, **_long),
    dict(_table, label="noisyfew", task="mlp32_noisyfew_20", **_rates),
    dict(_table, label="noisy_adamw", **_adamw),
]
num_outer_steps = 120
schedule = dict(
    init_value=1e-4, peak_value=2e-3, end_value=2e-4, warmup_steps=5, decay_steps=120, exponent=1.0, clip=1.0
)
