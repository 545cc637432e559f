"""What stands around the product: environments, checks, builds and the laptop stack."""
