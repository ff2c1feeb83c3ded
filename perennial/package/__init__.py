"""Packages: the files of a project that its runs read, as one archive named by its contents."""
