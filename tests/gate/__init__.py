"""The gate: a throw-away messenger and a throw-away CRM, loaded as an installed package would be, go the whole way.

`packages/` is put on the path of a gateway: two folders, one adapter each, and the metadata of a package with the entry points.
Nothing else in the project knows them; a test keeps it so.
"""
