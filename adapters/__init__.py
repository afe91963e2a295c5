"""How we speak to the outside: one folder per system. Read `adapters.base` for the contract, `registry` for the list."""
