"""One file per family of autoencoder."""
