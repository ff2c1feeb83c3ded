"""Files that `perennial init` writes into a new project folder.

Each file of it, with `.txt` behind its name.
"""
