"""The contract with the serving container and its client."""
