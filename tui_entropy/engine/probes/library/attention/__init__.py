"""Probes of attention: where heads look, which kind of head each is, why, and where it led."""
