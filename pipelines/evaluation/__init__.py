"""What every judgement shares: systems on a window, scores of other systems, windows one after the other."""
