"""The significance level that every confidence interval and hypothesis test uses unless it says otherwise."""

ALPHA = 0.05
