# What `make quickstart` meta-trains, five times with another meta-seed, against the rivals of its table.
#
# Source:  config/meta_train/quickstart.py with --seed 0 to 4 makes the checkpoints: python -m benchmarks.quickstart
#          runs it five times, then this, for `make claims CLAIM=evidence`.
# Run:     python src/main.py --config config/meta_test/quickstart_seeds.py
# Expect:  each of the five at FedAvg's last loss within half of its 65 rounds; two minutes on two cores.
_base_ = "quickstart.py"
name = "quickstart_seeds"
_checkpoints = "checkpoints/quickstart_seed_"
_learned = _base_._learned
entrants = [
    *_base_._rivals,
    dict(_learned, label="untrained", test_checkpoint=_checkpoints + "0/global_step0.safetensors"),
    *(
        dict(_learned, label=f"meta-seed {seed}", test_checkpoint=_checkpoints + str(seed))
        for seed in range(5)
    ),
]
