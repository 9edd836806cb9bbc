"""What happens while training: the run, the step, and what a run writes for people."""
