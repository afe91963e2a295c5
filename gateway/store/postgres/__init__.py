"""The way to PostgreSQL: the driver's thread, the pool, LISTEN, migrations, partitions, errors."""
