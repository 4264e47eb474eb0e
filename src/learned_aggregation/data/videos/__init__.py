"""Videos: clips that are drawn, DAVIS's folder, folders of frames, video files. Importing this imports no library."""

SCALE, SHIFT = 4 / 255, 2.0
"""Inputs are frames * SCALE - SHIFT: from -2 to 2, with a standard deviation of about 1."""
