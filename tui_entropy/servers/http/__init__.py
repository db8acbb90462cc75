"""Requests to a server: asked and answered in JSON or as a stream, within limits, with sentences for what fails."""
