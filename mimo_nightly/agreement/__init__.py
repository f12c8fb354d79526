"""The agreement of a target with a baseline: how many more words its file gets wrong."""
