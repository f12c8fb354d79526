"""The history of nightly runs as page, text, Markdown and JUnit XML."""
