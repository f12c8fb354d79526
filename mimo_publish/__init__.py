"""Publish to the Hub: model card, reproduction commands, upload and verification."""
