"""Arithmetic of a pass: attention without a mask, products of two rows, threads."""
