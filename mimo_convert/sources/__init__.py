"""Sources of bytes: local shards, Hub shards and their cache."""
