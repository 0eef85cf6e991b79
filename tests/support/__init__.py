"""What several tests, the demo and the bench need: real servers, and nothing that pretends."""
