"""The daily swing line: whether to trade a prediction, and how much of the portfolio to put into it."""
