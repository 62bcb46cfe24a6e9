"""What latentstream runs on; nothing in the packages imports this."""
