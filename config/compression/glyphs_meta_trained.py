# lagg-set meta-trained under compression, on glyphs of 14x14, an MLP 196-64-10; FedAvg without any compression sets the targets.
# Source: config/compression/glyphs.py, whose plain lagg-set has the same seeds; a row of `make claims CLAIM=round`.
# Run:    python src/main.py --config config/compression/glyphs_meta_trained.py
# Expect: table.csv and report.html in runs/; three minutes on two quiet cores.
_base_ = "glyphs.py"
entrants = [_base_.entrants[0]] + [
    dict(method, label="lagg-set-compressed" + method["label"][8:], test_checkpoint="lagg-set-compressed")
    for method in _base_.entrants
    if method["optimizer"] == "fedlagg-set"
]
