"""Between text and tokens: a token is bytes, and a template a program of somebody else."""
