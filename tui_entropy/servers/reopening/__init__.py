"""A recorded session gone on with through a server: its runs as they were left, and what of the server is another."""
