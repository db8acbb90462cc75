"""A private socket between engine and screens, who listens on it, and how to talk to it."""
