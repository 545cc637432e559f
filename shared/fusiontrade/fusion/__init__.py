"""The fused signal over four timeframes: agreement, targets, and the service that asks for them."""
