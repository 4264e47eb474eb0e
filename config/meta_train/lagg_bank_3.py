# lagg-bank's third part: all problems of the first and the tables of the second, windows of at least 10 rounds.
#
# Source:  config/meta_train/lagg_bank_2.py, whose theta this goes on from. Windows of 5 rounds for AdamW on larger networks
#          had kept gradients finite while networks knew nothing yet; they look no further than 5 rounds ahead.
# Run:     python src/main.py --config config/meta_train/lagg_bank_3.py --tfds_data_dir DIR --start_checkpoint checkpoints/lagg_bank_2b
# Expect:  35 minutes of one core; checkpoints/pretrained/lagg-bank is what it ends with.
_base_ = "lagg_bank_2.py"
name = "lagg_bank_3"
_ten = dict(truncation_length=10)
problems = [
    *(
        dict(problem, **_ten) if problem.get("truncation_length") == 5 else problem
        for problem in _base_._parts.values()
    ),
    *_base_.problems[-3:],
]
num_outer_steps = 150
schedule = dict(
    init_value=1e-4, peak_value=1.5e-3, end_value=1e-4, warmup_steps=5, decay_steps=150, exponent=1.0, clip=1.0
)
