"""The dialogs: all that opens over the screen."""
