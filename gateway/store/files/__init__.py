"""Files beside the database: recordings in a folder or an S3 bucket, and the spool."""
