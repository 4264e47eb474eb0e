"""Videos: clips that are drawn, DAVIS's folder, folders of frames, video files. Importing this imports no library."""
