# Meta-generalisation to a language model on lm1b, 12 layers.
# Source: Joseph et al., TMLR 2025, arXiv:2312.02204
# Run:    python src/main.py --config config/meta_train/meta_train_fedlagg-adafac32_image-mlp-fmst_schedule_3e-3_10000_d3:1.py --task mlp128x128_imagenet_32
#         python src/main.py --config config/meta_train/meta_train_fedlopt-adafac32_image-mlp-fmst_schedule_3e-3_10000_d3:1.py --task mlp128x128_imagenet_32
#         python src/main.py --config config/meta_test/generalise_transformer192_lm.py
# Expect: table.csv and report.html in runs/; for an accelerator. Needs lm1b (and seqio; see docs/tasks.md) in TFDS's
#         format: --tfds_data_dir. Its embedded twin: config/meta_test/families_transformer.py.
_base_ = "../_base_/generalise.py"
task = "transformer192_lm"
remat = True
tasks_per_chunk = 1
eval_chunk = 250
