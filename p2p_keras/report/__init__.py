"""A run's folder as one page of HTML that needs nothing else: settings, curves, samples, pairs, findings."""
