"""The family in `tests/murmur`, installed beside a wheel of the project, from download to nightly run."""
