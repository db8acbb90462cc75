"""Texts that are there already, scored in batches of similar length."""
