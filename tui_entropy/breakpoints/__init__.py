"""The language of breakpoints, and what a run is stopped at."""
