# What LAgg-A and LOpt-A, meta-trained on an MLP 128x128 on ImageNet at 32 pixels, do on tasks they have not seen,
# against tuned baselines. A base, not to be run by itself.
_base_ = "compare_published.py"
entrants = _base_._baselines + [
    dict(label="LAgg-A", optimizer="fedlagg-adafac", test_checkpoint="checkpoints/fedlagg-adafac32_mlp128x128_imagenet_32_K8_H4_0.5"),
    dict(label="LOpt-A", optimizer="fedlopt-adafac", test_checkpoint="checkpoints/fedlopt-adafac32_mlp128x128_imagenet_32_K8_H4_0.5"),
]
