"""The way out: checked files, their model card and checksums, to a repository of the Hub."""
