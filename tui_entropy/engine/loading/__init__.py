"""A name to a loaded model, checked and tried."""
