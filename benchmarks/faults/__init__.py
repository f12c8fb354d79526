"""What conversions do that are killed, that the disk fails, and that meet another in their folder."""
