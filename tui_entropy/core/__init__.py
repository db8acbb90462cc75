"""What every part needs of the system: paths, files, streams, text made safe, and errors for people."""
