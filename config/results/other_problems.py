# One checkpoint, lagg-set, on problems that it was not meta-trained on.
# Source: comparisons of docs/results.md; grids that several share: config/_base_/results.py.
# Run:    make results (those without a table yet); one of them: python src/main.py --config config/results/other_problems.py FLAGS --run_dir runs/results/NAME
#   deeper: Out of distribution: digits, MLP 64-32-32-32-10. --task mlp32x32x32_digits_8
#   wider: Out of distribution: digits, MLP 64-128-10. --task mlp128_digits_8
#   digits_h2: Out of distribution: digits, H = 2. --num_local_steps 2
#   digits_h32: Out of distribution: digits, H = 32. --num_local_steps 32
#   digits_k4: Out of distribution: digits, K = 4. --num_grads 4
#   digits_k16: Out of distribution: digits, K = 16. --num_grads 16
#   digits_k32: Out of distribution: digits, K = 32. --num_grads 32
#   glyphs_mlp: Out of distribution: glyphs of 14x14, MLP 196-64-10, H = 8. --task mlp64_glyphs_14 --num_local_steps 8
#   glyphs_noniid: Out of distribution: glyphs of 14x14, MLP 196-64-10, Dirichlet 0.1, 16 of 64 clients. --task mlp64_glyphs_14 --num_grads 16 --num_clients 64 --partition dirichlet
#   fresh_alpha1: Never looked at: digits, Dirichlet 1.0, 10 of 50 clients, H = 5. --partition dirichlet --partition_alpha 1.0 --num_grads 10 --num_clients 50 --num_local_steps 5
#   fresh_fonts: Never looked at: glyphs of 14x14, MLP 196-64-32-10, a font a client, 8 of all, H = 4. --task mlp64x32_glyphs_14 --partition natural
#   fresh_glyphs26: Never looked at: 26 glyphs of 20x20, MLP 400-64-26, H = 4. --task mlp64_glyphs26_20
#   fresh_glyphs62: Never looked at: 62 glyphs of 14x14, MLP 196-128-62, K = 16, H = 8. --task mlp128_glyphs62_14 --num_grads 16 --num_local_steps 8
#   fresh_k2: Never looked at: digits, MLP 64-32-10, K = 2, H = 16. --num_grads 2 --num_local_steps 16
#   fresh_k64: Never looked at: digits, MLP 64-32-10, K = 64, H = 3. --num_grads 64 --num_local_steps 3
#   fresh_shards: Never looked at: digits, two classes a client, 8 of 32 clients, H = 8. --partition shards --num_clients 32 --num_local_steps 8
# Expect: table.csv and report.html in runs/; one or two minutes each, some on glyphs and of the fresh ones, on two quiet cores.
_base_ = "../_base_/results.py"
task = "mlp32_digits_8"
