# A harsh bottleneck, one number for each token, the class token too: what pretraining it is worth, and training it along.
# Source: benchmarks/split.py reads its results: a row of `make claims CLAIM=split`.
# Run:    python src/main.py --config config/split/fmnist_harsh.py --tfds_data_dir ../shared/data/tfds
# Expect: table.csv, clients.csv and report.html in runs/.
_base_ = "../_base_/split_fmnist.py"
split = dict(
    bottleneck="mlp1",
    latent_dim=1,
    class_token="through",
    cases=[
        dict(label="random, frozen", ae_pretrain=False),
        dict(label="pretrained, frozen"),
        dict(label="random, trained along", ae_pretrain=False, ae_frozen=False),
        dict(label="pretrained, trained along", ae_frozen=False),
    ],
)
