"""Output for an image viewer or a browser: the loss plot and the surprisal page."""
