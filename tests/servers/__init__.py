"""Real servers that tests start for themselves, each in a folder of its own."""
