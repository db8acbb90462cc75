"""The app as every part of the screen can count on it."""
