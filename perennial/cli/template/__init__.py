"""What `perennial init` writes into a new project folder: each file of it, with `.txt` behind its name."""
