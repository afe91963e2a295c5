"""How machines reach us: the table of addresses and both listeners."""
