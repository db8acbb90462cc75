"""The program from Python: a session with a model, its runs and answers as objects, for scripts and notebooks."""
