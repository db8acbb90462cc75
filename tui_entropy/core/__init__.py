"""The system as every part needs it: paths, files, streams, text made safe, and errors for people."""
