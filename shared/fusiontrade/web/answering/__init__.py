"""How routes answer: once for one key, in pages, by reference, with a job."""
