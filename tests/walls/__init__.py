"""The walls between companies: found from the catalogue, the store's functions and the map of addresses, tried from every
side, and dropped one at a time to see that these tests notice."""
