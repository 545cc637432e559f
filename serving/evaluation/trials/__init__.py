"""Ways to calibrate that were tried on bars before the judged slice: a record that can be run again."""
