# lagg-set meta-trained while its clients' deltas are compressed: four of its ten problems as they are, six compressed.
#
# Source:  config/meta_train/lagg_set.py and its ten problems; what compresses them is qsgd at 8, 4 and 2 bits, the
#          1.56 % of largest magnitude and scaled signs. sparseloco and powersgd it never sees: they are for testing.
# Run:     python src/main.py --config config/meta_train/lagg_set_compressed.py
# Expect:  the mean meta-loss falls by a fifth; half an hour on one core of two. checkpoints/pretrained/lagg-set-compressed is
#          a result of it.
_base_ = "lagg_set.py"
name = "lagg_set_compressed"
_digits = dict(
    task="mlp32_digits_8",
    truncation_length=50,
    truncation_schedule_min_length=100,
    episode_growth_steps=0,
    local_learning_rate_range=(0.35, 1.0),
)
_conv = dict(task="conv8x16_glyphs_8", local_batch_size=16, local_learning_rate_range=(0.2, 1.5))
_top = dict(compressor="topk", compressor_options=dict(fraction=0.015625, error_feedback="ef14"))
_signs = dict(compressor="signsgd", compressor_options=dict(error_feedback="ef14"))


def _qsgd(bits):
    return dict(compressor="qsgd", compressor_options=dict(bits=bits, norm="max", bucket=512))


problems = [
    dict(label="digits_h4", num_local_steps=4, **_digits, **_top),
    dict(label="digits_h8", num_local_steps=8, **_digits),
    dict(label="digits_h16", num_local_steps=16, **_digits, **_qsgd(4)),
    dict(
        label="digits_noniid",
        task="mlp32_digits_8",
        num_local_steps=4,
        partition="dirichlet",
        num_clients=64,
        **_qsgd(2),
    ),
    dict(label="digits_k32_h2", num_grads=32, num_local_steps=2, **_digits),
    dict(
        label="digits_noniid_k4",
        task="mlp32_digits_8",
        num_grads=4,
        num_local_steps=4,
        partition="dirichlet",
        num_clients=64,
        local_learning_rate_range=(0.3, 1.0),
        **_top,
    ),
    dict(label="glyphs_k4_h2", task="mlp32_glyphs_8", num_grads=4, num_local_steps=2, **_signs),
    dict(label="conv_h4", num_local_steps=4, **_conv, **_top),
    dict(label="conv_h8", num_local_steps=8, **_conv),
    dict(label="conv_h16", num_local_steps=16, **_conv, **_qsgd(8)),
]
