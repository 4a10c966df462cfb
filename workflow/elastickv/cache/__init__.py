"""What an elastic cache holds and moves: slots by a policy, seeded numbers, float64 oracle, bytes of a launch."""
