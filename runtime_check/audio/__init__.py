"""Audio clips: decoding, resampling, manifests, and the JFK clip."""
