"""A run on disk: its folder, its weights files and its history; how to find a run."""
