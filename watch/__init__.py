"""The night watch: published files are fetched, proved again, and compared with the nights before."""
