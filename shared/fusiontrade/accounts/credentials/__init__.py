"""What users prove themselves with: passwords, mailed codes, API keys, known devices, and how attempts are counted."""
