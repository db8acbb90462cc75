"""The words that engine and screen share: frozen records of the standard library and msgspec only."""
