"""How files on disk are found, read and told apart."""
