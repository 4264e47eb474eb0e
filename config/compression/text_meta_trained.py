# lagg-set meta-trained under compression, on pytext, a transformer of width 32; FedAvg without any compression sets the targets.
# Source: config/compression/text.py, whose plain lagg-set has the same seeds; a row of `make claims CLAIM=round`.
# Run:    python src/main.py --config config/compression/text_meta_trained.py
# Expect: table.csv and report.html in runs/; ten minutes on two quiet cores.
_base_ = "text.py"
entrants = [_base_.entrants[0]] + [
    dict(method, label="lagg-set-compressed" + method["label"][8:], test_checkpoint="lagg-set-compressed")
    for method in _base_.entrants
    if method["optimizer"] == "fedlagg-set"
]
