"""The base of every view, what a repaint sees, and what views have in common."""
