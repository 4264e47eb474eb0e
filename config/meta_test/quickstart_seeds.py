# What `make quickstart` meta-trains, five times with another meta-seed, against the rivals of its table.
#
# Source:  python -m benchmarks.quickstart makes the checkpoints, then runs this, for `make claims CLAIM=evidence`:
#          python src/main.py --config config/meta_train/quickstart.py --seed 0 --name quickstart_seed_0
#          python src/main.py --config config/meta_train/quickstart.py --seed 1 --name quickstart_seed_1
#          python src/main.py --config config/meta_train/quickstart.py --seed 2 --name quickstart_seed_2
#          python src/main.py --config config/meta_train/quickstart.py --seed 3 --name quickstart_seed_3
#          python src/main.py --config config/meta_train/quickstart.py --seed 4 --name quickstart_seed_4
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
