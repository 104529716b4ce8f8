"""The original report, rebuilt figure by figure from a series of studies."""
