"""The documents as their readers meet them: links, commands, tables, shell code."""
