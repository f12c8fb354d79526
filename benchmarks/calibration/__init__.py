"""What calibrating costs at the real size."""
