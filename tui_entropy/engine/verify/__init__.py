"""Doctor: every number got in two ways on this very model and machine, and how far each can be believed."""
