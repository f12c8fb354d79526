"""Agreement: which of several files is good enough, on hours of clean and degraded speech, on one machine or many."""
