"""Run a system and compare its activations with a reference, stage by stage."""
