"""Questions about a token that a server can answer truly: a file for each, registry.py has them and asks one."""
