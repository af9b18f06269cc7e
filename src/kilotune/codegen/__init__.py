"""C projects: from a network and a plan to firmware, and what it takes to build and run it."""
