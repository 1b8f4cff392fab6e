"""Events: plans, one state machine a machine, and what carries them out."""
