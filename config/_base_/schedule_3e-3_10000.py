# 10,000 outer steps; AdamW's rate rises from 3e-10 to 3e-3 in 100 steps and falls to 1e-3 at the last.
num_outer_steps = 10000
schedule = dict(
    init_value=3e-10,
    peak_value=3e-3,
    end_value=1e-3,
    warmup_steps=100,
    decay_steps=10000,  # the warm-up included
    exponent=1.0,
    clip=None,
)
