"""Random actions on a pseudo-terminal: made from a seed, played on the program, a failing sequence shrunk."""
