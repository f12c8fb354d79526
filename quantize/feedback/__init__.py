"""Error feedback: codes that make up for one another's errors, given second moments of inputs."""
