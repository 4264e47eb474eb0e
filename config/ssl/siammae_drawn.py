# Clients without labels hold videos: FedAvg trains a siamese masked autoencoder on drawn clips, a family of motions for
# each of 8 clients.
# Source: Gupta et al., "Siamese Masked Autoencoders", NeurIPS 2023, arXiv:2305.14344, made small; docs/siammae.md.
# Run:    python src/main.py --config config/ssl/siammae_drawn.py
# Expect: rounds.csv and report.html in runs/; minutes on two cores. loss_of_another_clip and loss_without_first_frame
#         rise above loss once the first frame is used, after some hundred local steps.
_base_ = "../_base_/siammae.py"
optimizer = "fedavg"
