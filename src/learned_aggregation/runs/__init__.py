"""What a run keeps on disk and shows: checkpoints, its directory, progress, trackers."""
