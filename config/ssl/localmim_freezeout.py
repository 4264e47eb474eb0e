# LocalMIM whose layers freeze from the bottom up: FreezeOut, cubic, t0 = .8, in four steps. What is frozen costs no
# gradient and is not sent; the bits of rounds.csv fall with it.
# Source: Brock et al., 2017, arXiv:1706.04983; a row of `make claims CLAIM=mim`.
# Run:    python src/main.py --config config/ssl/localmim_freezeout.py
#         ... --cfg-options freezing.t0=0.5 freezing.power=linear objective_options.all_stages=True
#         ... --cfg-options freezing.shape=constant      (rates stay until a layer's end)
#         ... --cfg-options freezing.t0=1.0              (nothing freezes; with num_inner_steps=416 it stops early)
# Expect: rounds.csv, report.html and encoders/ in runs/; a few minutes on two cores.
_base_ = "../_base_/mim.py"
name = "localmim_freezeout"
freezing = dict(t0=0.8, power="cubic", phases=4)
probe_every = 80
auto_resume = True
