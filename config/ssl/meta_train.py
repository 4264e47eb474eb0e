# Meta-training on masked modelling: a mixture of encoders without labels and classifiers of digits as inner problems.
# Source: a row of `make claims CLAIM=mim`.
# Run:    python src/main.py --config config/ssl/meta_train.py
#         python src/main.py --config config/ssl/localmim.py --task vit_p4_h16_m32_nh2_nl2_glyphsrgb_16 \
#             --test_checkpoint checkpoints/mim_mixture
# Expect: a theta in checkpoints/mim_mixture; some minutes on two cores.
run_type = "meta-train"
name = "mim_mixture"
optimizer = "fedlagg-set"
base = "mean"
num_grads = 4
num_local_steps = 2
local_batch_size = 8
num_tasks = 2
num_inner_steps = 40
truncation_length = 10
truncation_schedule_min_length = 10
num_outer_steps = 150
meta_loss_split = "same_data"
schedule = dict(peak_value=3e-3, warmup_steps=10, decay_steps=150)
save_iter = 50
problems = [
    dict(
        label="masked",
        task="vit_p4_h16_m32_nh2_nl2_glyphsrgb_16",
        objective="localmim",
        objective_options=dict(decoder_width=16),
        local_optimizer="adamw-matrices",
        local_learning_rate=0.003,
    ),
    dict(label="digits", task="mlp32_digits_8", local_learning_rate=0.3),
]
