"""Views on the whole screen, a file each; none imports another."""
