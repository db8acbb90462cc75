"""An OpenAI-compatible endpoint over an engine that runs: requests of other programs as texts that it writes."""
