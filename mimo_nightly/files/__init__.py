"""Files of nightly targets: downloads and their cache."""
