"""Ids -> logits: the device, the cells, the recurrent layers, the model."""
