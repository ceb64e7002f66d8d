"""One pass over the videos that answers for every row; its store, and how it resumes."""
