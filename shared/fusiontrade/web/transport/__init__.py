"""What holds for every request before and after its route: sizes, headers, log lines, figures."""
