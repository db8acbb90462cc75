"""Probes: questions about one token, answered from a model that is up. A file of `library/` is one."""
