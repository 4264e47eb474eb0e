"""Videos without labels: a siamese masked autoencoder on drawn clips, then object masks carried through other clips.

python examples/siammae.py [STEPS]
"""

import sys
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from learned_aggregation.data.federated import to_federated
from learned_aggregation.data.videos import SCALE, SHIFT
from learned_aggregation.data.videos.scenes import draw_clips
from learned_aggregation.ssl.central import Recipe, start, train
from learned_aggregation.ssl.features import raw_patches, siamese_features
from learned_aggregation.ssl.probing import clip_scores, judged, table_row
from learned_aggregation.ssl.propagation import Propagation
from learned_aggregation.ssl.siamese import siammae
from learned_aggregation.ssl.siamese_task import SiameseOptions, siamese_task
from learned_aggregation.types import Dataset, Split

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
side, frames, objects = 32, 8, 3

# Eight families of motions; textures and motions of the split "test" are others.
clips, _ = draw_clips(0, "train", 64, side, frames)
videos = np.stack([clip.video for clip in clips])
dataset = Dataset("drawn", {"train": Split({"video": videos})}, 0, SCALE, SHIFT)
sizes = siammae("_p8_h48_m192_nh3_nl2_dh32_dnh2_dnl1", 3)
task = siamese_task("siammae", sizes, dataset, SiameseOptions(1, frames - 1, epsilon=0.16))

# In one place; a Task also trains in federated rounds, as in examples/masked_modelling.py.
recipe = Recipe(steps, warmup=steps // 20, batch=8, learning_rate=1e-3)
with tempfile.TemporaryDirectory() as folder:  # a folder that stays resumes what was stopped
    data = to_federated(dataset.splits["train"], [np.arange(len(videos))])
    trained = train(task, data, recipe, seed=0, directory=Path(folder) / "siammae").theta

held_out, _ = draw_clips(1, "test", 4, side, frames)
inputs = jnp.stack([jnp.asarray(clip.video, jnp.float32) * SCALE - SHIFT for clip in held_out])
masks = np.stack([clip.masks for clip in held_out])
untrained = start(task, recipe, seed=1).theta
compared = {
    "copying": None,
    "raw patches": raw_patches(8),
    "random": siamese_features("random", untrained, sizes)[sizes.layers - 1],
    "trained": siamese_features("trained", trained, sizes)[sizes.layers - 1],
}
for name, feature in compared.items():
    _, j, f = clip_scores(feature, inputs, jnp.asarray(masks), objects + 1, 4, [Propagation(radius=3.0)])
    row = table_row(judged(masks, np.asarray(j[0]), np.asarray(f[0]), ["a", "b", "c", "d"]))
    print(f"{name}: J&F {row['jf_mean']:.3f}")
