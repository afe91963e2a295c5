"""Deliveries: handed over by the commit that writes them or claimed, attempted once at a time, recorded."""
