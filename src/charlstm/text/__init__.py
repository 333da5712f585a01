"""Characters -> ids -> windows."""
