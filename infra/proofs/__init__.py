"""Programs that check the running product against an independent computation."""
