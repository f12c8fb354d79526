"""Injected defects, and what each command says of them: the table of docs/defects.md."""
