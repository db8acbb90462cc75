"""Probes in the words of both processes: the questions, and answers in panels that anything can show."""
