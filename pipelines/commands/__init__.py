"""One file per group of verbs; the command line imports the one it runs."""
