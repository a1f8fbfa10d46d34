"""Importance matrices: read and made in llama.cpp's formats, and folded into the weights."""
