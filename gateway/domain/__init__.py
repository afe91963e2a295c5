"""Plain data and pure functions. No I/O, no clock, nothing of ours imported from outside this package."""
