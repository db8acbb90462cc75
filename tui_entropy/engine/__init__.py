"""The model and all that reads it: torch and transformers; prints nothing, draws nothing."""
