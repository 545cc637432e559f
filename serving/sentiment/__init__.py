"""The mood of headlines: a classifier that was brought in (`serving.bringing`), else a lexicon. No torch."""
