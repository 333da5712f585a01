"""A run on disk: its folder, its weights files, its history; and which run is meant."""
