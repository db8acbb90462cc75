"""The engine process: commands in, events out to everyone who watches."""
