"""`rarefirst doctor`: looks at a set-up from both sides, says what is wrong, mends what is safe."""
