# Digits with Dirichlet 0.1, 8 of 64 clients, which lagg-set-digits-noniid was meta-trained on. Its network off is FedAvg.
# Source: comparisons of docs/results.md; grids that several share: config/_base_/results.py.
# Run:    make results (those without a table yet); one of them: python src/main.py --config config/results/digits_noniid.py FLAGS --run_dir runs/results/NAME
#   digits_noniid_h4: In distribution: digits, Dirichlet 0.1, 8 of 64 clients, H = 4. --num_local_steps 4
#   digits_noniid_h8: In distribution: digits, Dirichlet 0.1, 8 of 64 clients, H = 8. --num_local_steps 8
#   digits_noniid_h16: In distribution: digits, Dirichlet 0.1, 8 of 64 clients, H = 16. --num_local_steps 16
# Expect: table.csv and report.html in runs/; a minute or two each on two quiet cores.
_base_ = "../_base_/results.py"
task = "mlp32_digits_8"
num_clients = 64
partition = "dirichlet"
_set = _base_._any_k
_noniid = "lagg-set-digits-noniid"
entrants = (
    _base_.entrants
    + _base_._nesterov
    + [
        dict(label=_noniid, tune_by="mean", test_checkpoint=_noniid, **_set),
        dict(label=_noniid + " (by last)", tune_by="last", test_checkpoint=_noniid, **_set),
        dict(label=_noniid + ", seed 1", tune_by="mean", test_checkpoint=_noniid + "-seed1", **_set),
        dict(label=_noniid + ", seed 2", tune_by="mean", test_checkpoint=_noniid + "-seed2", **_set),
    ]
)
