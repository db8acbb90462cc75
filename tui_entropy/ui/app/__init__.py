"""The application: events in, one frame out."""
