"""Probes of the text: a step taken again or otherwise, what else might come, whose doubt it is, of which words."""
