"""Who asks: tokens, keys, cookies, addresses, and how often they may."""
