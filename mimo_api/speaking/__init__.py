"""Tasks beside transcription: what is asked, and what is spoken or written."""
