"""Every probe there is: a module here with a `PROBE` is found by its name, and nothing else need be touched."""
