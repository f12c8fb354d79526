"""The store of answers, in a folder of the user's: what was run once is never run again."""
