"""Speech generation of MiMo-Audio: samplers, the patch decoder, the loop over groups, and its PyTorch reference."""
