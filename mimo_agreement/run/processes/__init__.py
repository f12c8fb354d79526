"""Answer jobs in processes of this machine."""
