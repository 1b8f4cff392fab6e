"""What anybody can check of the books without trusting them: the day's liabilities, signed statements."""
