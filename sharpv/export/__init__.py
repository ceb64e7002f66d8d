"""Methods in the shapes that other engines ask for."""
