# lagg-set meta-trained under compression, on digits, Dirichlet 0.1, 8 of 64 clients; FedAvg without any compression sets the targets.
# Source: config/compression/digits_noniid.py, whose plain lagg-set has the same seeds; a row of `make claims CLAIM=round`.
# Run:    python src/main.py --config config/compression/digits_noniid_meta_trained.py
# Expect: table.csv and report.html in runs/; two minutes on two quiet cores.
_base_ = "digits_noniid.py"
entrants = [_base_.entrants[0]] + [
    dict(method, label="lagg-set-compressed" + method["label"][8:], test_checkpoint="lagg-set-compressed")
    for method in _base_.entrants
    if method["optimizer"] == "fedlagg-set"
]
