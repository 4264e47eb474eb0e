# Feature masking: the first block sees whole images. Once it is frozen, what it makes of each image is computed once, kept
# on the device and masked in the same order; the images no longer go through it. The losses are the same to rounding.
# Cheaper than the same run without storing; a run without mask_after costs about as much (docs/ssl.md).
# Source: Brock et al., 2017, arXiv:1706.04983; the row `features` of `make claims CLAIM=mim`.
# Run:    python src/main.py --config config/ssl/localmim_features.py
#         ... --cfg-options freezing.store_features=False      (the same run, images all the way)
# Expect: rounds.csv, report.html and encoders/ in runs/; a few minutes on two cores. Features of 39 MB per seed.
_base_ = "../_base_/mim.py"
name = "localmim_features"
objective_options = dict(mask_after=1)
freezing = dict(t0=0.5, power="cubic", phases=4, store_features=True)
probe_every = 80
auto_resume = True
