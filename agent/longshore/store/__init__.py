"""Where objects are kept: the contract, its stores and their wrappers."""
