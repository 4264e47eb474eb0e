# Fine-tuning of the encoder that config/ssl/localmim.py left, with labels: mean pooling, layer-wise rates, clipped
# gradients, and layers that freeze from the bottom up.
# Source: He et al., 2022, arXiv:2111.06377, appendix A; Brock et al., 2017, arXiv:1706.04983.
# Run:    python src/main.py --config config/ssl/localmim.py --run_dir runs/localmim
#         python src/main.py --config config/ssl/finetune_freezeout.py
#         ... --cfg-options objective_options.encoder=''            (from scratch)
#         ... --cfg-options objective_options.encoder=vit.safetensors   (timm's names of parameters)
# Expect: rounds.csv and report.html in runs/; a few minutes on two cores.
_base_ = "../_base_/mim.py"
name = "finetune_freezeout"
objective = "finetuning"
objective_options = dict(
    _delete_=True,
    encoder="runs/localmim/encoders/vit_p4_h32_m64_nh2_nl4_glyphsrgb_16_seed0.safetensors",
)
local_optimizer = "adamw-finetuning"
freezing = dict(t0=0.8, power="cubic", phases=4, warmup=20)
probes = ()
