"""The simulated shop, in which what is true of users and items is known."""
