# Meta-generalisation to a deeper MLP (6 hidden layers).
# Source: Joseph et al., TMLR 2025, arXiv:2312.02204
# Run:    python src/main.py --config config/meta_train/meta_train_fedlagg-adafac32_image-mlp-fmst_schedule_3e-3_10000_d3:1.py --task mlp128x128_imagenet_32
#         python src/main.py --config config/meta_train/meta_train_fedlopt-adafac32_image-mlp-fmst_schedule_3e-3_10000_d3:1.py --task mlp128x128_imagenet_32
#         python src/main.py --config config/meta_test/generalise_mlp128_pow6_imagenet_32.py
# Expect: table.csv and report.html in runs/; for an accelerator. Needs imagenet_resized/32x32 in TFDS's
#         format: --tfds_data_dir. Its embedded twin: config/meta_test/families_mlp.py.
_base_ = "../_base_/generalise.py"
task = "mlp128_pow6_imagenet_32"
