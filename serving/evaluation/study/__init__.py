"""The study behind `make evaluate`: every bundle of a folder judged anew on the untouched slice of the candles."""
