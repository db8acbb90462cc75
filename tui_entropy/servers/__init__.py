"""Models that are asked through a server: it is told apart and asked what it can do, and its answers become steps."""
