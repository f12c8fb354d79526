"""Progress of long work, and who hears of it: a command's console, or a program's callbacks."""
