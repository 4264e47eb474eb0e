# LAgg-A on glyphs that stream: windows of 4,096 images, a quarter of them new at each outer step, cropped at random.
# Source: glyphs_mlp.py; what a data set larger than the device (ImageNet) does by itself, on embedded images.
# Run:    python src/main.py --config config/meta_train/glyphs_mlp_streamed.py
# Expect: the speed and the curve of glyphs_mlp.py; the meta-loss starts near ln 10 = 2.30 and falls. A run that is
#         stopped goes on in mid-stream, bit for bit, with --from_checkpoint.
_base_ = "./glyphs_mlp.py"
name_suffix = "_streamed"
stream = True
stream_window = 4096
stream_fresh = 1024
augment = ("crop",)
