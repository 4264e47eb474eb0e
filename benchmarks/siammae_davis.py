"""A folder as DAVIS-2016's, of 20 drawn sequences, through reader, probe and report in one command."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.checkout import ROOT
from benchmarks.siammae_models import RUNS
from learned_aggregation.data.videos.photoclips import LIGHT
from learned_aggregation.data.videos.scenes import draw_clips

FOLDER, RUN = RUNS / "davis", RUNS / "davis_run"
SEQUENCES, FRAMES, SIDE = 20, 16, 96
EPOCHS = 4
"""Of training: that the command works is asked, not how good its encoder is."""


def prepare(folder: Path) -> None:
    """Writes the folder: frames as JPEG, annotations of one object as 0 and 255, the list of the sequences."""
    clips, _ = draw_clips(11, "test", SEQUENCES, SIDE, FRAMES, LIGHT)
    names = [f"drawn-{number:02d}" for number in range(SEQUENCES)]
    for name, clip in zip(names, clips, strict=True):
        for kind in ("JPEGImages", "Annotations"):
            (folder / kind / "480p" / name).mkdir(parents=True, exist_ok=True)
        # The object that is largest in the first frame.
        number = 1 + int(np.argmax(np.bincount(clip.masks[0].ravel(), minlength=4)[1:]))
        for t, (frame, masks) in enumerate(zip(clip.video, clip.masks, strict=True)):
            Image.fromarray(frame).save(folder / f"JPEGImages/480p/{name}/{t:05d}.jpg", quality=95)
            marks = 255 * (masks == number).astype(np.uint8)
            Image.fromarray(marks).save(folder / f"Annotations/480p/{name}/{t:05d}.png")
    (folder / "ImageSets" / "2016").mkdir(parents=True, exist_ok=True)
    (folder / "ImageSets" / "2016" / "val.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


def davis() -> dict[str, Any]:
    """The rows of the run's table, by feature."""
    if not (FOLDER / "ImageSets" / "2016" / "val.txt").is_file():
        prepare(FOLDER)
    if not (RUN / "report.html").is_file():
        command = ["src/main.py", "--config", "config/ssl/siammae_davis.py", "--run_dir", str(RUN)]
        options = ["--cfg-options", f"siammae.davis={FOLDER}", f"siammae.epochs={EPOCHS}"]
        subprocess.run([sys.executable, *command, *options], check=True, cwd=ROOT)
    with (RUN / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = {row.pop("feature"): {k: float(v) for k, v in row.items()} for row in csv.DictReader(file)}
    with (RUN / "objects.csv").open(encoding="utf-8", newline="") as file:
        counted = len({row["sequence"] for row in csv.DictReader(file)})
    return {"sequences": counted, "report": (RUN / "report.html").stat().st_size, "rows": rows}
