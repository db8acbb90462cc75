"""A recorded run in another format."""
