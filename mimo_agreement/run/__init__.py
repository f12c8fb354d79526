"""Run files on clips in conditions: what is asked, in this process or in several, and what they answered."""
