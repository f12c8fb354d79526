"""Answer jobs on a cluster of Dask (dask.distributed), which nothing else imports."""
