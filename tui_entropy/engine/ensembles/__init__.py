"""Ensembles: the same model slightly changed, each member in a way that can be had again, and what they agree on."""
