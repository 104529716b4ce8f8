"""Pages that join several studies: a series, a transfer matrix, the original report."""
