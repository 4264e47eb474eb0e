# Clients without labels train an encoder by LocalMIM: hidden patches reconstructed at four scales, HOG as targets. The
# random encoder is round 0 of the same curves; raw pixels and training from scratch stand beside them.
# Source: Wang et al., CVPR 2023, arXiv:2303.05251; a row of `make claims CLAIM=mim`.
# Run:    python src/main.py --config config/ssl/localmim.py
#         ... --task vit_p4_h32_m64_nh2_nl4_c10_16 --tfds_data_dir ../shared/data/tfds     (CIFAR-10)
#         ... --cfg-options objective_options.target=pixels     (or hog with objective_options.mask_ratio=0.75, as published)
# Expect: rounds.csv, report.html and encoders/ in runs/; a few minutes on two cores.
_base_ = "../_base_/mim.py"
name = "localmim"
probes = ("linear50", "linear200", "linear", "knn", "pixels50", "finetune", "scratch")
