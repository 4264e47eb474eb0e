# The paper's size: ViT-S/16 on clips of 224 pixels, gaps of 4 to 48 frames, 2,000 epochs (400 in its ablation) with 40 of
# warm-up, 2,048 clips a step, AdamW (.9, .95) with decay .05, 1.5e-4 for 256 clips. Its shapes are checked by the tests;
# training it takes accelerators and Kinetics-400 as folders of frames or videos.
# Source: Gupta et al., "Siamese Masked Autoencoders", NeurIPS 2023, arXiv:2305.14344, appendix.
# Run:    python src/main.py --config config/ssl/siammae_vits16_224.py --cfg-options datasets.kinetics.path=DIR
# Expect: a table and report.html in runs/, after days on 8 accelerators.
run_type = "siammae"
task = "siammae_p16_h384_m1536_nh6_nl12_dh256_dnh8_dnl4_kinetics_224"
objective = "siammae"
objective_options = dict(shortest_gap=4, longest_gap=48, mask_ratio=0.95, repeats=2, smallest_crop=0.5)
datasets = dict(kinetics=dict(type="video_folder", path="kinetics400", frames=49))
siammae = dict(
    epochs=2000,  # 400 in the ablation
    warmup_epochs=40,
    batch=2048,
    accumulate=64,
    learning_rate=1.5e-4,
    per_256=True,
    min_rate=0.0,
    decay=0.05,
)
