"""Second ways to the numbers: float64 numpy and plain Python, which share no line with what computes them first.

Modules here import numpy, the standard library, one another and `records` (for names alone): a test holds them to it.
"""
