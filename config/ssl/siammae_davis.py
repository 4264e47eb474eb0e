# DAVIS-2016 through the probe: raw patches, a random encoder and one trained here on drawn clips alone, one command.
# Source: Gupta et al., "Siamese Masked Autoencoders", NeurIPS 2023, arXiv:2305.14344, section 4.1, made small.
# Run:    python src/main.py --config config/ssl/siammae_davis.py --cfg-options siammae.davis=DIR
# Expect: table.csv (J, F, J&F), objects.csv (a row for each sequence and object) and report.html with masks beside the
#         truth in runs/; some minutes on two cores. DIR holds JPEGImages, Annotations and ImageSets. Frames are resized to
#         a shorter side of 96 pixels for the features; J and F are of the annotations at their size.
run_type = "siammae"
task = "siammae_p8_h96_m384_nh3_nl3_dh64_dnh4_dnl2_photoclipslit_48"
objective = "siammae"
objective_options = dict(shortest_gap=1, longest_gap=12, epsilon=0.16)
siammae = dict(epochs=20, warmup_epochs=1, davis=None, year="2016", side=96, stride=4)
