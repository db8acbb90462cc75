"""The parts of the main screen, a file each; none imports another."""
