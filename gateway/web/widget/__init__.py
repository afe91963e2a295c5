"""The chat in a company's own site: what its pages load, and what visitors' browsers send and read."""
