"""What ``latentstream evaluate`` measures, one task a file, and the report that it makes of it."""
