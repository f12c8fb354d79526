"""MiMo-V2.5-ASR and MiMo-Audio-7B."""

REPO = "XiaomiMiMo/MiMo-V2.5-ASR"  # the published checkpoint, on the Hub
