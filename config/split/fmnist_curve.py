# Accuracy against bytes at the cut: bottlenecks, latent dimensions, quantised latents; the bottleneck is always on.
# Source: benchmarks/split.py reads its results: a row of `make claims CLAIM=split`.
# Run:    python src/main.py --config config/split/fmnist_curve.py --tfds_data_dir ../shared/data/tfds
# Expect: table.csv, clients.csv and report.html in runs/.
_base_ = "../_base_/split_fmnist.py"


def _bits(bits):
    compressor = dict(type="qsgd", bits=bits, norm="max")
    return dict(latent_compressor=compressor, gradient_compressor=compressor, class_token="quantised")


split = dict(
    cases=[
        dict(label="identity", bottleneck="identity"),
        *(dict(label="linear, z %d" % z, bottleneck="linear", latent_dim=z) for z in (2, 4, 8)),
        dict(label="mlp1, z 4", bottleneck="mlp1", latent_dim=4),
        dict(label="linear, z 4, trained along", bottleneck="linear", latent_dim=4, ae_frozen=False),
        dict(label="conv, z 16", bottleneck="conv", latent_dim=16),
        dict(label="linear, z 8, 8 bits", bottleneck="linear", latent_dim=8, **_bits(8)),
        dict(label="linear, z 8, 4 bits", bottleneck="linear", latent_dim=8, **_bits(4)),
        dict(label="linear, z 16, 8 bits", bottleneck="linear", latent_dim=16, **_bits(8)),
    ],
)
