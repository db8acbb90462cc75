"""The way to the terminal and back out: cells that changed, no more than is shown."""
