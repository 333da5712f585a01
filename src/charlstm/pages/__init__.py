"""Output to look at outside the terminal: the loss plot and the surprisal page."""
