# LAgg-A on glyphs (characters drawn with many fonts, embedded), an MLP 784-128-128-10.
# Source: the setting of arXiv:2312.02204 with shorter episodes and fewer outer steps.
# Run:    python src/main.py --config config/meta_train/glyphs_mlp.py
# Expect: the first run draws and caches the images; the meta-loss starts near ln 10 = 2.30 and falls;
#         1,000 outer steps of 2 x 8 x 50 rounds: a long run on a CPU. Resume with --from_checkpoint.
#         --task mlp128x128_glyphs62rgb_32, of 62 classes in colour, starts near ln 62 = 4.13 and is the embedded twin of
#         mlp128x128_imagenet_32; its checkpoint is what larger models of config/meta_test/families_*.py may be tested with.
_base_ = "../_base_/meta_train_paper.py"
optimizer = "fedlagg-adafac"
task = "mlp128x128_glyphs_28"
truncation_schedule_min_length = 50
num_inner_steps = 500
num_outer_steps = 1000
schedule = dict(
    init_value=3e-10,
    peak_value=3e-3,
    end_value=1e-3,
    warmup_steps=50,
    decay_steps=1000,  # the warm-up included
    clip=1.0,
)
save_iter = 100
