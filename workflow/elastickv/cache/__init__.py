"""What an elastic cache holds and moves: its slots by a policy, the seeded numbers, float64 oracle, bytes of a launch."""
