"""PostgreSQL: one module per aggregate. Only `pool` knows the driver; SQL lives here and in `migrations/` alone."""
